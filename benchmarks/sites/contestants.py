"""Who takes part, and how its own documentation says to install it for this site.

A contestant that can keep its records in the database does so; its locks are on, and it replays
rather than refuses where that is a choice. Here is only data: the parent of a measurement reads it
without any of the packages.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.servers import REDIS_VARIABLE

#: Names the contestant whose site a process is.
CONTESTANT_VARIABLE = "BENCHMARK_CONTESTANT"
DATABASES = ("postgresql", "mariadb", "sqlite")
#: The default is for ``check``, which does not connect.
REDIS = os.environ.get(REDIS_VARIABLE, "redis://127.0.0.1:6379/0")


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to protect the view.

    ``environment`` is the file in ``benchmarks/requirements``; ``urls`` the module in this package.
    ``one_effect`` says whether 16 racers with one key have one effect, which some do not keep.
    """

    name: str
    environment: str
    urls: str
    apps: tuple[str, ...] = ()
    middleware: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    connection: Mapping[str, Any] = field(default_factory=dict)
    databases: tuple[str, ...] = DATABASES
    one_effect: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether a wrong answer is our own fault."""
        return self.urls == "ours"


def _ours(name: str, **own: Any) -> Contestant:
    return Contestant(name, "ours", "ours", apps=("django_idempotency",), **own)


def _peer(name: str, urls: str = "", **own: Any) -> Contestant:
    return Contestant(name, name, urls or name.replace("-", "_"), **own)


_ALL = (
    _ours("ours"),
    # As behind a pooler.
    _ours("ours-unprepared", settings={"IDEMPOTENCY_PREPARE": False}, databases=("postgresql",)),
    # The project's own statements are prepared, too: another bare view.
    _ours(
        "ours-server-binding",
        connection={"server_side_binding": True, "prepare_threshold": 5},
        databases=("postgresql",),
    ),
    _ours("ours-redis", settings={"IDEMPOTENCY_CACHE": "redis"}),
    _peer(
        "django-idempotency-key",
        middleware=("idempotency_key.middleware.ExemptIdempotencyKeyMiddleware",),
        settings={
            "IDEMPOTENCY_KEY": {
                # The first request's status instead of 409.
                "CONFLICT_STATUS_CODE": None,
                "STORAGE": {
                    "CLASS": "idempotency_key.storage.CacheKeyStorage",
                    "CACHE_NAME": "redis",
                },
                "LOCK": {
                    "CLASS": "idempotency_key.locks.redis.MultiProcessRedisLock",
                    "LOCATION": REDIS,
                },
            }
        },
        one_effect=False,
    ),
    _peer(
        "djangorestframework-idempotency-key",
        apps=("rest_framework_idempotency_key",),
        middleware=("rest_framework_idempotency_key.middleware.IdempotencyKeyMiddleware",),
        settings={"IDEMPOTENCY_KEY_LOCK_TIMEOUT": 60},
    ),
    _peer(
        "drf-idem",
        "middleware_alone",
        apps=("drf_idem",),
        middleware=("drf_idem.middleware.IdempotencyMiddleware",),
        settings={"DRF_IDEM": {"HEADER": "HTTP_IDEMPOTENCY_KEY", "CACHE_BACKEND": "redis"}},
        one_effect=False,
    ),
    _peer(
        "drf-idempotency",
        "middleware_alone",
        apps=("drf_idempotency",),
        middleware=("drf_idempotency.middleware.IdempotencyMiddleware",),
        settings={"IDEMPOTENCY": {"BACKEND": "drf_idempotency.backends.database.DatabaseBackend"}},
    ),
    _peer("drf-idempotencykey", apps=("drf_idempotencykey",)),
    # On PostgreSQL by a pool of its own; where it knows no database of ours, in Redis.
    _peer("idemkit"),
    _peer("justonce"),
)

CONTESTANTS = {contestant.name: contestant for contestant in _ALL}


def current() -> Contestant:
    """The one whose site this process is."""
    return CONTESTANTS[os.environ[CONTESTANT_VARIABLE]]
