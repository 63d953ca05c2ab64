"""A pooler that changes servers is noticed, declared or not: no plan is kept on its connections."""

import uuid
from collections.abc import Iterator

import pytest
from django.db import connection

from tests.app import effects
from tests.conftest import Post
from tests.unit.storage.dialects.test_postgresql_binding import sent

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="no other has such poolers"),
]

# Whether the settings declare a pooler for this run's database; PgBouncer has a ring of its own.
POOLED = bool(connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))


@pytest.fixture(params=[False, True], ids=["undeclared", "declared"])
def declared(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the settings declare that each transaction may get another server."""
    connection.close()
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = request.param
    yield request.param
    connection.close()
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = POOLED


def claims(post: Post, number: int) -> list[str]:
    """The statements of so many fresh claims on one connection."""
    requests = [sent(post, uuid.uuid4().hex) for _ in range(number)]
    texts = [text for request in requests for text in request]
    return [text for text in texts if "INSERT INTO" in text and "idempotencyrecord" in text]


def test_plans_are_kept_only_without_a_pooler(declared: bool, post: Post) -> None:
    """From a connection's second claim on; by then its server is known."""
    prepared = ["set_config" in text for text in claims(post, 3)]
    assert effects.count() == 3
    assert prepared == [False, *[not (POOLED or declared)] * 2]


def test_each_connection_is_examined(post: Post) -> None:
    """What is known of one connection is not assumed of the next."""
    claims(post, 2)
    connection.close()
    assert ["set_config" in text for text in claims(post, 1)] == [False]
