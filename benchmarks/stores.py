"""The databases and the Redis that contestants share, each by its name; a file is one too."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers import REDIS_VARIABLE, MariaDB, PostgreSQL, Valkey

SERVERS = {"postgresql": PostgreSQL, "mariadb": MariaDB}


@contextmanager
def database(kind: str) -> Iterator[str]:
    """Its address while it runs; raises ServerUnavailableError."""
    if kind in SERVERS:
        with SERVERS[kind]() as server:
            yield server.url
    else:
        # A temporary folder may be in memory, where nothing is flushed.
        with tempfile.TemporaryDirectory(dir=os.environ.get("IDEMPOTENCY_TEST_DATA")) as folder:
            yield f"sqlite://{folder}"


@contextmanager
def redis() -> Iterator[Valkey]:
    """A Valkey that the processes started inside find in their environment."""
    with Valkey() as server:
        os.environ[REDIS_VARIABLE] = server.url
        yield server
