"""The settings of every site; what a contestant adds to them is in ``contestants``."""

from typing import Any

from benchmarks.sites.contestants import REDIS, current
from benchmarks.sites.databases import database

contestant = current()

SECRET_KEY = "only for measurements"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = f"benchmarks.sites.{contestant.urls}"
DATABASES = {"default": database(contestant.name, contestant.connection)}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": REDIS},
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    *contestant.apps,
    "benchmarks.sites.orders",
]
MIDDLEWARE = list(contestant.middleware)
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["benchmarks.sites.orders.authentication.Customer"],
}

globals().update(contestant.settings)
