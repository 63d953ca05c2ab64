"""The settings of the test suite.

The database comes from ``IDEMPOTENCY_TEST_DATABASE``: unset or ``sqlite`` for SQLite files,
``postgresql://user@host:port/name`` for a server. The names below are those of the test databases
themselves, so a process that a test starts with these settings works on the same data.
"""

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

DATABASE = os.environ.get("IDEMPOTENCY_TEST_DATABASE") or "sqlite"
ALIASES = ("default", "other")


def scratch_folder() -> Path:
    """A folder that this process and those it starts share; the first one removes it."""
    variable, creator = "IDEMPOTENCY_TEST_FOLDER", os.getpid()
    if variable not in os.environ:
        os.environ[variable] = tempfile.mkdtemp(prefix="django-idempotency-tests-")

        def remove() -> None:
            if os.getpid() == creator:
                shutil.rmtree(os.environ[variable], ignore_errors=True)

        atexit.register(remove)
    return Path(os.environ[variable])


def sqlite(alias: str) -> dict[str, Any]:
    """A file, so that threads and processes share it, opened as the documentation recommends."""
    name = str(scratch_folder() / f"test_{alias}.sqlite3")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "TEST": {"NAME": name},
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL",
            "timeout": 20,
        },
    }


def server(alias: str) -> dict[str, Any]:
    """A database on the server of ``IDEMPOTENCY_TEST_DATABASE``; never the one it names."""
    url = urlsplit(DATABASE)
    name = f"test_{url.path.lstrip('/')}" + ("" if alias == "default" else f"_{alias}")
    return {
        "ENGINE": {"postgresql": "django.db.backends.postgresql"}[url.scheme],
        "NAME": name,
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": url.hostname or "",
        "PORT": str(url.port or ""),
        # A real server keeps its connections (tests.live says so); a test gives them back.
        "CONN_MAX_AGE": int(os.environ.get("IDEMPOTENCY_TEST_CONN_MAX_AGE", "0")),
        "TEST": {"NAME": name},
    }


def installed(*names: str) -> list[str]:
    """Those of the given apps whose distribution is there."""
    return [name for name in names if find_spec(name.partition(".")[0])]


SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.app.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = {alias: sqlite(alias) if DATABASE == "sqlite" else server(alias) for alias in ALIASES}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    *installed("rest_framework", "rest_framework.authtoken"),
    "django_idempotency",
    "tests.app",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

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
