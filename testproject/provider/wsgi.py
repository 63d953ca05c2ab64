"""The provider as gunicorn sees it; its ledger is ready before the first request."""

import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.provider.settings")

application = get_wsgi_application()
# There is one worker: nobody else does this at the same time.
call_command("migrate", verbosity=0, interactive=False)
