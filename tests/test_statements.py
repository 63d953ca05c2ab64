"""What the layer costs beside the bare view, in statements; DESIGN, section 7, has the budget."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.urls import served
from tests.conftest import Post

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

#: Beyond BEGIN, the view's INSERT and COMMIT.
BUDGET = {
    "postgresql": {"fresh": 3, "replay": 2, "conflict": 2, "probed": 3, "keyless": 0},
    "sqlite": {"fresh": 4, "replay": 1, "conflict": 1, "probed": 2, "keyless": 0},
}[connection.vendor]
_BOUNDS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def statements(send: Callable[[], object]) -> list[str]:
    """Every statement but the bounds of transactions."""
    with CaptureQueriesContext(connection) as captured:
        send()
    return [q["sql"] for q in captured if not q["sql"].startswith(_BOUNDS)]


def bounds(send: Callable[[], object], word: str) -> int:
    """How many statements begin with ``word``."""
    with CaptureQueriesContext(connection) as captured:
        send()
    return sum(query["sql"].startswith(word) for query in captured)


@pytest.mark.parametrize("door", served("/function/", "/mixin/", "/below/"))
def test_statements_stay_in_the_budget(door: str, key: str, post: Post) -> None:
    """Fresh, replay and keyless, beyond the bare view's."""
    bare = len(statements(lambda: post("/bare/")))
    assert len(statements(lambda: post(door))) == bare + BUDGET["keyless"]
    assert len(statements(lambda: post(door, key))) == bare + BUDGET["fresh"]
    replayed = statements(lambda: post(door, key))
    assert len(replayed) == BUDGET["replay"]
    assert not any(text.startswith("UPDATE") for text in replayed)
    assert effects.count() == 3


@pytest.mark.parametrize("door", served("/function/", "/mixin/"))
def test_fresh_request_commits_once_more_than_the_bare_view(
    door: str, key: str, post: Post
) -> None:
    """The claim is in autocommit: one transaction of the view's, as before."""
    begun = bounds(lambda: post("/bare/"), "BEGIN")
    assert bounds(lambda: post(door, key), "BEGIN") == begun
    assert bounds(lambda: post(door, key), "BEGIN") == 0


def test_conflict_stays_in_the_budget(key: str, post: Post) -> None:
    """A young claim is not even probed; an old one once."""
    post("/function/", key)
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS, claimed_at=Now(), **dict.fromkeys(answer)
    )
    assert len(statements(lambda: post("/function/", key))) == BUDGET["conflict"] or (
        connection.vendor == "postgresql"
    )
    IdempotencyRecord.objects.update(
        claimed_at=Now() - timedelta(seconds=5),
        lease_expires_at=Now() + timedelta(days=1),
        atomic=False,
    )
    assert len(statements(lambda: post("/function/", key))) == BUDGET["conflict"]
