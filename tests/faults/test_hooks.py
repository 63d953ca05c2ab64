"""``on_commit`` hooks that raise: the work is committed, so every retry gets its reply."""

import pytest

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.conftest import atomic_requests_on

from .crowd import ask
from .urls import there

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.faults.urls"),
]

DOORS = there("/hook/", "/api/hook/")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("raises=error", 500),
        # No 503, which would say that nothing ran.
        ("raises=database", 500),
        ("raises=error&robust", 201),
        ("raises=database&robust", 201),
    ],
    ids=["error", "database error", "robust", "robust, database error"],
)
def test_hook_that_raises_leaves_a_replay(
    query: str, status: int, door: str, key: str, atomic_requests: bool
) -> None:
    """A plain hook and a robust one may raise any error."""
    first = ask(f"{door}?{query}", key)
    assert Order.objects.count() == effects.count() == 1
    assert IdempotencyRecord.objects.get().status == Status.COMPLETED
    assert first.status_code == status
    again = ask(f"{door}?{query}", key)
    assert Order.objects.count() == effects.count() == 1
    assert again.status_code == 201
    assert again["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("door", DOORS)
def test_hook_that_raises_without_a_key_is_django_s_own(door: str) -> None:
    """Without a key the reply is the same, and the writes stay."""
    with atomic_requests_on("default"):
        assert ask(f"{door}?raises=error").status_code == 500
    assert ask(f"{door}?raises=error&robust").status_code == 201
    assert Order.objects.count() == effects.count() == 2
