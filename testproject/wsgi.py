"""The shop as a WSGI server sees it; it serves its own stylesheet, so no web server is needed."""

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")

application = StaticFilesHandler(get_wsgi_application())
