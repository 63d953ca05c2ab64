"""Rendering and serializing fail inside the transaction: nothing is left, and the retry runs."""

import pytest

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.conftest import Post

from .urls import there

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.faults.urls"),
]

DOORS = there(
    *("/page/", "/nowhere/", "/after-rendering/"),
    *("/api/serialized/", "/api/rendered/", "/api/shown/"),
)


@pytest.mark.parametrize("door", DOORS)
def test_response_that_cannot_be_rendered_undoes_the_view(
    door: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """The client gets no page, so there is no order; the retry runs as if it were the first."""
    first = post(door, key)
    assert Order.objects.count() == 0
    assert effects.count() == 1
    assert first.status_code == 500
    assert IdempotencyRecord.objects.get().status == Status.RELEASED
    second, third = post(door, key), post(door, key)
    assert Order.objects.count() == 1
    assert effects.count() == 2
    assert second.status_code in (200, 201)
    assert "Idempotent-Replayed" not in second
    assert third["Idempotent-Replayed"] == "true"
    assert third.content == second.content
