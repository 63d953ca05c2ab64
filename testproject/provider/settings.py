"""The provider's settings; ``PROVIDER_DATABASE`` is its ledger (``var/provider.sqlite3``)."""

import os
from pathlib import Path

from testproject.databases import database

_VAR = Path(__file__).resolve().parent.parent / "var"

# Public, as is everything else around this shop.
SECRET_KEY = "django-insecure-the-provider-has-no-secrets"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["testproject.provider", "django_idempotency"]
ROOT_URLCONF = "testproject.provider.urls"
DATABASES = {
    "default": database(os.environ.get("PROVIDER_DATABASE") or str(_VAR / "provider.sqlite3"))
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
