"""Statements are built once for each alias, and outlive the connection they were built on."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from django_idempotency.storage.records import Store, texts_of
from django_idempotency.storage.steps import Journal
from django_idempotency.storage.upkeep import Upkeep
from tests.concurrency.owners import in_thread

# MariaDB tells only over a connection that it is no MySQL.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("store", [Store, Journal, Upkeep])
def test_connection_of_a_thread_that_ended_is_collected(store: type[Store]) -> None:
    """The texts that are kept hold nothing but text."""
    texts_of.cache_clear()

    def build() -> Any:
        store("default")
        connection = connections["default"]
        return id(connection), weakref.ref(connection)

    with ThreadPoolExecutor(1) as pool:
        identity, connection = in_thread(pool, build).result()
    assert identity != id(connections["default"])
    gc.collect()
    assert connection() is None
