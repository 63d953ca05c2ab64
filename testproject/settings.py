"""The shop's settings. What differs between a demonstration and a test comes from the environment.

========================  =======================================================================
``SHOP_DATABASE``         SQLite's path (``var/shop.sqlite3``) or ``postgresql://user@host/name``
``SHOP_KITCHEN_LOG``      the file that counts bakings outside the database (``var/kitchen.log``)
``SHOP_BAKE_SECONDS``     how long a person waits while her cake is baked (``0``)
``SHOP_PROVIDER_URL``     where payments, courier and mail are (``http://127.0.0.1:8001``)
``SHOP_CALL_SECONDS``     how long the shop waits for an answer from there (``3``)
``SHOP_LEASE_SECONDS``    how long a delivery that nobody works at is left alone (``10``)
``SHOP_GATES``            the folder of the gates at which a worker can be stopped (none)
``SHOP_REDIS``            the URL of a Redis: replays are answered from there (none)
``SHOP_ATOMIC_REQUESTS``  ``1``: Django wraps every view in a transaction
``SHOP_DEBUG``            ``1``: Django's error pages
========================  =======================================================================
"""

import os
from pathlib import Path
from typing import Any

from .databases import database

_VAR = Path(__file__).resolve().parent / "var"


def _is_on(name: str) -> bool:
    return os.environ.get(name, "0") == "1"


DEBUG = _is_on("SHOP_DEBUG")
# Public, as is everything else in this shop.
SECRET_KEY = "django-insecure-the-cake-shop-has-no-secrets"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    # Before django_idempotency: the shop has its own page for the errors of the layer.
    "testproject.shop",
    "django_idempotency",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    # The two outermost: whatever comes back from the shop can get lost on the way to the visitor.
    "testproject.shop.middleware.VisitMiddleware",
    "testproject.shop.middleware.TunnelMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "testproject.shop.middleware.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "testproject.urls"
WSGI_APPLICATION = "testproject.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **database(os.environ.get("SHOP_DATABASE", str(_VAR / "shop.sqlite3"))),
        "ATOMIC_REQUESTS": _is_on("SHOP_ATOMIC_REQUESTS"),
    },
}
if _REDIS := os.environ.get("SHOP_REDIS"):
    CACHES: dict[str, dict[str, Any]] = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "idempotency": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": _REDIS,
            "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.1, "SOCKET_TIMEOUT": 0.1},
        },
    }
    IDEMPOTENCY_CACHE = "idempotency"

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
LOGIN_URL = "shop:login"
LOGIN_REDIRECT_URL = "shop:home"
LOGOUT_REDIRECT_URL = "shop:home"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "testproject.shop.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "django_idempotency.contrib.openapi.AutoSchema",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "The cake shop",
    "VERSION": "2",
    # What a program sends is not what it gets back.
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_INCLUDE_SCHEMA": False,
    # From the sidecar: the page with the API's description needs no other site.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

SHOP_KITCHEN_LOG = os.environ.get("SHOP_KITCHEN_LOG", str(_VAR / "kitchen.log"))
SHOP_BAKE_SECONDS = float(os.environ.get("SHOP_BAKE_SECONDS", "0"))
SHOP_GATES = os.environ.get("SHOP_GATES", "")
SHOP_CALL_SECONDS = float(os.environ.get("SHOP_CALL_SECONDS", "3"))
SHOP_LEASE_SECONDS = float(os.environ.get("SHOP_LEASE_SECONDS", "10"))
SHOP_PROVIDER_URL = os.environ.get("SHOP_PROVIDER_URL", "http://127.0.0.1:8001")
