"""With idemkit: a mixin, whose records are in PostgreSQL or, beside another database, in Redis."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.db import connection
from django.urls import path
from idemkit import HttpConfig, PostgresBackend, RedisBackend
from idemkit.cli import main
from idemkit.contrib.drf import idempotent_view

from benchmarks.sites.contestants import REDIS
from benchmarks.sites.orders.views import Bare
from tests.support.servers import DATABASE_VARIABLE


def _url() -> str:
    server = urlsplit(os.environ[DATABASE_VARIABLE])
    return server._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


_pool: list[Any] = []


async def _remember(member: Any) -> None:
    _pool.append(member)


def _backend() -> Any:
    if connection.vendor == "postgresql":
        return PostgresBackend.from_url(_url(), init=_remember)
    return RedisBackend.from_url(REDIS)


@contextmanager
def watched() -> Iterator[list[str]]:
    """The texts that its own connections send inside."""
    texts: list[str] = []

    def log(query: Any) -> None:
        texts.append(query.query)

    for member in _pool:
        member.add_query_logger(log)
    yield texts
    for member in _pool:
        member.remove_query_logger(log)


def create_tables() -> None:
    """Do what its command line is for."""
    if connection.vendor == "postgresql":
        main(["init-pg", _url()])


Protected: Any = idempotent_view(
    backend=_backend(), config=HttpConfig(scope=lambda request: str(request.user.pk))
)


class Orders(Protected, Bare):
    """Its records are on connections of their own, beside the view's transaction."""


urlpatterns = [path("orders/", Orders.as_view()), path("bare/", Bare.as_view())]
