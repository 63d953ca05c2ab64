"""A pooler that changes servers is seen, said or not: none of them is asked to keep a plan."""

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

# What the settings say of the database of this run: PgBouncer has a ring of its own.
POOLED = bool(connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))


@pytest.fixture(params=[False, True], ids=["undeclared", "declared"])
def declared(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the settings say that each transaction may meet another server."""
    connection.close()
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = request.param
    yield request.param
    connection.close()
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = POOLED


def claims(post: Post, number: int) -> list[str]:
    """The claims of so many fresh keys on one connection, as they are sent."""
    requests = [sent(post, uuid.uuid4().hex) for _ in range(number)]
    texts = [text for request in requests for text in request]
    return [text for text in texts if "INSERT INTO" in text and "idempotencyrecord" in text]


def test_plans_are_kept_only_where_nothing_stands_between(declared: bool, post: Post) -> None:
    """From the second claim of a connection on, which knows its server by then."""
    prepared = ["set_config" in text for text in claims(post, 3)]
    assert effects.count() == 3
    assert prepared == [False, *[not (POOLED or declared)] * 2]


def test_new_connection_is_looked_at_anew(post: Post) -> None:
    """What is known of one says nothing of the next."""
    claims(post, 2)
    connection.close()
    assert ["set_config" in text for text in claims(post, 1)] == [False]
