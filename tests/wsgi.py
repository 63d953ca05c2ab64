"""The test app for a real server, on the test run's own database."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
