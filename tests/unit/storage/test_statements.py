"""How many statements a covered request takes beyond those of the bare view."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from unittest import mock

import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from django_idempotency.storage.records import Store
from tests.app import effects
from tests.app.urls import served
from tests.conftest import Post

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

#: Beyond BEGIN, the view's INSERT and COMMIT.
BUDGET = {
    # Claim, heartbeat, completion. A claim also reads the record that it meets, and its lock.
    "postgresql": {"fresh": 3, "replay": 1, "conflict": 1, "probed": 1, "keyless": 0},
    # A SELECT precedes the claim.
    "sqlite": {"fresh": 4, "replay": 1, "conflict": 1, "probed": 2, "keyless": 0},
    "mysql": {"fresh": 4, "replay": 1, "conflict": 1, "probed": 2, "keyless": 0},
}[connection.vendor]
_BOUNDS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def statements(send: Callable[[], object]) -> list[str]:
    """Every statement but those that begin or end transactions."""
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
    """A fresh key, a replay and a request without a key each take what their budget says."""
    bare = len(statements(lambda: post("/bare/")))
    assert len(statements(lambda: post(door))) == bare + BUDGET["keyless"]
    assert len(statements(lambda: post(door, key))) == bare + BUDGET["fresh"]
    replayed = statements(lambda: post(door, key))
    assert len(replayed) == BUDGET["replay"]
    assert not any("UPDATE" in text for text in replayed)
    assert effects.count() == 3


@pytest.mark.parametrize("door", served("/function/", "/mixin/"))
def test_fresh_request_commits_once_more_than_the_bare_view(
    door: str, key: str, post: Post
) -> None:
    """The claim is in autocommit: the view's transaction stays the only one that begins."""
    begun = bounds(lambda: post("/bare/"), "BEGIN")
    assert bounds(lambda: post(door, key), "BEGIN") == begun
    assert bounds(lambda: post(door, key), "BEGIN") == 0


@pytest.fixture
def conflict(key: str, post: Post) -> Callable[[], object]:
    """A request whose key has just been claimed by another one."""
    post("/function/", key)
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS, claimed_at=UtcNow(), **dict.fromkeys(answer)
    )
    return lambda: post("/function/", key)


@pytest.fixture
def owner(conflict: Callable[[], object]) -> Iterator[BaseDatabaseWrapper]:
    """Another connection that holds the row lock, as a running view does."""
    other = connection.copy()
    other.set_autocommit(False)
    record = IdempotencyRecord.objects.get()
    with mock.patch.object(Store, "connection", other):
        assert Store("default").lock(record.pk, record.token, wait=None)
    yield other
    other.rollback()
    other.close()


def test_young_claim_is_not_even_probed(conflict: Callable[[], object]) -> None:
    """The age of the claim is enough for a refusal."""
    assert len(statements(conflict)) == BUDGET["conflict"]


def test_running_request_is_probed_once(
    conflict: Callable[[], object], request: pytest.FixtureRequest
) -> None:
    """One statement probes the owner's lock, and nothing is written."""
    IdempotencyRecord.objects.update(claimed_at=UtcNow() - timedelta(seconds=5))
    request.getfixturevalue("owner")
    assert len(statements(conflict)) == BUDGET["probed"]
    assert IdempotencyRecord.objects.get().attempts == 1
