"""The settings of the test suite.

The database comes from the environment:

``IDEMPOTENCY_TEST_DATABASE``
    One of ``SQLITE`` for files; unset means ``sqlite``. Else the URL of a server,
    ``postgresql://user@host:port/name`` or ``mysql://...``; that of PgBouncer in transaction mode
    ends in ``?pgbouncer=true``.
``IDEMPOTENCY_TEST_DATABASE_PORT``
    Connect to this port instead, where something stands in front of the server.
``IDEMPOTENCY_TEST_ISOLATION``
    The isolation level of all transactions, such as ``repeatable read``; servers only.
``IDEMPOTENCY_TEST_POOL``
    ``1`` for Django's connection pool; PostgreSQL only.
``IDEMPOTENCY_TEST_CONN_MAX_AGE``
    How long a connection is kept. A real server keeps its own (tests.support.live says so); a test
    gives them back.
``IDEMPOTENCY_TEST_REDIS``
    Where the cache ``redis`` is, for tests that put it in front of the database:
    ``redis://host:port/0``, or in the same way ``sentinel://host:port,.../service`` and
    ``cluster://host:port,...``. Unset, there is no such cache.
``IDEMPOTENCY_TEST_DATA``
    The folder for databases; unset means the system's temporary folder.

The names below are those of the test databases themselves, so a process that a test starts with
these settings works on the same data.
"""

import atexit
import os
import shutil
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.redis import TIMEOUT_SECONDS

DATABASE = os.environ.get("IDEMPOTENCY_TEST_DATABASE") or "sqlite"
PORT = os.environ.get("IDEMPOTENCY_TEST_DATABASE_PORT", "")
ISOLATION = os.environ.get("IDEMPOTENCY_TEST_ISOLATION", "")
POOL = os.environ.get("IDEMPOTENCY_TEST_POOL") == "1"
CONN_MAX_AGE = int(os.environ.get("IDEMPOTENCY_TEST_CONN_MAX_AGE", "0"))
REDIS = os.environ.get("IDEMPOTENCY_TEST_REDIS", "")
ALIASES = ("default", "other")

# How a transaction begins, and the journal. The first is what the documentation recommends, the
# last is what Django and SQLite do on their own.
SQLITE = {
    "sqlite": ("IMMEDIATE", "WAL"),
    "sqlite-deferred-wal": ("DEFERRED", "WAL"),
    "sqlite-immediate-delete": ("IMMEDIATE", "DELETE"),
    "sqlite-deferred-delete": ("DEFERRED", "DELETE"),
}


def scratch_folder() -> Path:
    """A folder that this process and those it starts share; the first one removes it."""
    variable, creator = "IDEMPOTENCY_TEST_FOLDER", os.getpid()
    if variable not in os.environ:
        os.environ[variable] = tempfile.mkdtemp(
            prefix="django-idempotency-tests-", dir=os.environ.get("IDEMPOTENCY_TEST_DATA") or None
        )

        def remove() -> None:
            if os.getpid() == creator:
                shutil.rmtree(os.environ[variable], ignore_errors=True)

        atexit.register(remove)
    return Path(os.environ[variable])


def sqlite(alias: str) -> dict[str, Any]:
    """A file, so that threads and processes share it."""
    name = str(scratch_folder() / f"test_{alias}.sqlite3")
    mode, journal = SQLITE[DATABASE]
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "TEST": {"NAME": name},
        "OPTIONS": {
            "transaction_mode": mode,
            "init_command": f"PRAGMA journal_mode={journal}",
            "timeout": 20,
        },
    }


def server(alias: str) -> dict[str, Any]:
    """A database on the server of ``IDEMPOTENCY_TEST_DATABASE``; never the one it names."""
    url = urlsplit(DATABASE)
    name = f"test_{url.path.lstrip('/')}" + ("" if alias == "default" else f"_{alias}")
    own = {"postgresql": postgresql, "mysql": mysql}[url.scheme]()
    return {
        "NAME": name,
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": url.hostname or "",
        "PORT": PORT or str(url.port or ""),
        "CONN_MAX_AGE": 0 if POOL else CONN_MAX_AGE,
        **({"DISABLE_SERVER_SIDE_CURSORS": True} if url.query == "pgbouncer=true" else {}),
        **own,
        "TEST": {"NAME": name, **own.get("TEST", {})},
    }


def postgresql() -> dict[str, Any]:
    """What only PostgreSQL's connections have."""
    options: dict[str, Any] = {}
    if POOL:
        options["pool"] = True
    if ISOLATION:
        levels = import_module("psycopg").IsolationLevel
        options["isolation_level"] = levels[ISOLATION.upper().replace(" ", "_")]
    return {"ENGINE": "django.db.backends.postgresql", "OPTIONS": options}


def mysql() -> dict[str, Any]:
    """What only MariaDB's and MySQL's connections have."""
    import_module("pymysql").install_as_MySQLdb()
    # Ready for TLS, PyMySQL reads the system's certificates at each connect, 30 ms long.
    options: dict[str, Any] = {"charset": "utf8mb4", "ssl_disabled": True}
    if ISOLATION:
        options["isolation_level"] = ISOLATION
    return {
        "ENGINE": "django.db.backends.mysql",
        "OPTIONS": options,
        "TEST": {"CHARSET": "utf8mb4"},
    }


def redis_cache(url: str) -> dict[str, Any]:
    """The cache at ``url`` as the documentation recommends it, whatever stands behind it."""
    place = urlsplit(url)
    options: dict[str, Any] = {
        "SOCKET_TIMEOUT": TIMEOUT_SECONDS,
        "SOCKET_CONNECT_TIMEOUT": TIMEOUT_SECONDS,
    }
    settings: dict[str, Any] = {"BACKEND": "django_redis.cache.RedisCache", "OPTIONS": options}
    if place.scheme == "sentinel":
        options |= sentinel(addresses_in(place.netloc))
        return settings | {"LOCATION": f"redis://{place.path.strip('/')}/0"}
    if place.scheme == "cluster":
        factory = "django_idempotency.replay_cache.redis_cluster.ClusterConnectionFactory"
        options |= {"CONNECTION_FACTORY": factory, "CLUSTER": addresses_in(place.netloc)}
        return settings | {"LOCATION": "cluster"}
    return settings | {"LOCATION": url}


def addresses_in(netloc: str) -> list[tuple[str, int]]:
    """``host:port,host:port`` as pairs."""
    pairs = (host.rsplit(":", 1) for host in netloc.split(","))
    return [(host, int(port)) for host, port in pairs]


def sentinel(addresses: list[tuple[str, int]]) -> dict[str, Any]:
    """What django-redis must know to ask sentinels, and to ask none of them ten times."""
    once = import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0)
    waits = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    return {
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": addresses,
        "SENTINEL_KWARGS": {**waits, "retry": once},
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

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if REDIS:
    CACHES["redis"] = redis_cache(REDIS)

DATABASES = {alias: sqlite(alias) if DATABASE in SQLITE else server(alias) for alias in ALIASES}

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

REST_FRAMEWORK: dict[str, Any] = {}
if installed("drf_spectacular"):
    # Read when a view is made.
    REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"] = "django_idempotency.contrib.openapi.AutoSchema"

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
