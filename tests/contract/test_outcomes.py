"""What the view's answer means for its writes and the key (docs/http.rst, The first request)."""

from itertools import product

import pytest

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import API, DOORS
from tests.conftest import Post, atomic_requests_on

pytestmark = [
    pytest.mark.cached,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

#: act: (status, writes stay, status of the record)
TABLE = {
    "order": (201, True, Status.COMPLETED),
    "payment_required": (402, True, Status.COMPLETED),
    "unauthorized": (401, True, Status.RELEASED),
    "other_form": (200, True, Status.COMPLETED),
    "unavailable": (503, False, Status.RELEASED),
    "crash": (500, False, Status.RELEASED),
    "none": (500, False, Status.RELEASED),
    "homeless": (500, False, Status.RELEASED),
    "marked": (500, False, Status.RELEASED),
    "rolls_back": (201, False, Status.RELEASED),
    "releases": (201, True, Status.RELEASED),
    "keeps": (503, True, Status.COMPLETED),
}
CELLS = [
    *product(DOORS, TABLE),
    # Ninja makes a response of whatever an operation returns, even of None.
    *product(["/ninja/door/"], sorted(TABLE.keys() - {"none"})),
]


@pytest.mark.parametrize("with_key", [True, False], ids=["key", "no-key"])
@pytest.mark.parametrize(("door", "act"), CELLS)
def test_answer_decides_about_writes_and_key(
    door: str, act: str, with_key: bool, key: str, post: Post, atomic_requests: bool
) -> None:
    """The writes follow the same rule with and without a key."""
    status, stay, kept = TABLE[act]
    assert post(door, key if with_key else None, act=act).status_code == status
    assert Order.objects.count() == stay
    # A claim that joined a transaction is rolled back with it: no row, and the key is free.
    left = list(IdempotencyRecord.objects.values_list("status", flat=True))
    assert left in ([[kept], []] if kept is Status.RELEASED and not stay else [[kept]]) or (
        not with_key and left == []
    )


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("act", ["crash", "unavailable", "homeless", "unauthorized", "rolls_back"])
def test_retry_after_no_outcome_runs_at_once(
    act: str, door: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """The key is free, and nothing is replayed whose writes are not there."""
    for _ in range(2):
        assert "Idempotent-Replayed" not in post(door, key, act=act)
    assert effects.count() == 2


@pytest.mark.drf
@pytest.mark.parametrize("with_key", [True, False], ids=["key", "no-key"])
@pytest.mark.parametrize("door", API)
def test_exception_after_a_write_undoes_it(
    door: str, with_key: bool, key: str, post: Post, atomic_requests: bool
) -> None:
    """REST framework's ValidationError: 400, no row and a free key, whatever ATOMIC_REQUESTS is."""
    for runs in (1, 2):
        assert post(door, key if with_key else None, act="invalid").status_code == 400
        assert not Order.objects.exists()
        assert effects.count() == runs


@pytest.mark.parametrize("door", DOORS)
def test_hook_that_raises_after_commit_leaves_a_replay(
    door: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """The work is committed, so the retry gets its reply, even where the claim had joined."""
    assert post(door, key, act="broken_hook").status_code == 500
    assert post(door, key, act="broken_hook")["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == effects.count() == 1


@pytest.mark.parametrize("door", DOORS)
def test_failing_commit_elsewhere_is_never_replayed(door: str, key: str, post: Post) -> None:
    """With ATOMIC_REQUESTS the other database commits first, so its failure undoes the record."""
    with atomic_requests_on("default", "other"):
        replies = [post(door, key, act="homeless_elsewhere") for _ in range(3)]
    assert {reply.status_code for reply in replies} <= {500, 503}
    assert [reply.status_code for reply in replies[1:]] == [500, 500]
    assert effects.count() >= 2
    assert not Order.objects.exists()


@pytest.mark.parametrize("with_key", [True, False], ids=["key", "no-key"])
@pytest.mark.parametrize("door", DOORS)
def test_writes_elsewhere_are_undone_too(door: str, with_key: bool, key: str, post: Post) -> None:
    """With ATOMIC_REQUESTS every database has a transaction, with and without a key."""
    with atomic_requests_on("default", "other"):
        for _ in range(2):
            reply = post(door, key if with_key else None, act="elsewhere_and_crash")
            assert reply.status_code in (500, 503)
    assert effects.count() >= 1
    assert not Order.objects.using("other").exists()


def test_view_that_commits_by_itself_is_released_after_an_error(key: str, post: Post) -> None:
    """``atomic=False``: the view's writes stay, and the key is free."""
    assert post("/plainly/", key, act="crash").status_code == 500
    assert Order.objects.count() == 1
    assert IdempotencyRecord.objects.get().status == Status.RELEASED
    assert post("/plainly/", key).status_code == 422, "the failed attempt may have left traces"


def test_view_that_commits_by_itself_is_replayed(key: str, post: Post) -> None:
    """``atomic=False``: the response is saved when the view has returned."""
    first, second = post("/plainly/", key), post("/plainly/", key)
    assert effects.count() == 1
    assert first.content == second.content
