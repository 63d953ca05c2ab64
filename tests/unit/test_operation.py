"""What a running view can read from its operation."""

import uuid
from typing import Any

import pytest
from django.http import HttpResponse, JsonResponse
from django.test import RequestFactory

from django_idempotency.decorators import idempotent
from django_idempotency.http.keys import record_id
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operation import current_operation

pytestmark = pytest.mark.django_db(transaction=True)


def call(view: Any, key: str | None = None, body: str = "{}") -> HttpResponse:
    """One POST of a user's."""
    headers = {} if key is None else {"Idempotency-Key": key}
    request = RequestFactory().post("/", body, content_type="application/json", headers=headers)
    response: HttpResponse = view(request)
    return response


def test_operation_is_on_the_request_and_current(key: str) -> None:
    """With key, scope, attempt and record, as long as the view runs."""
    seen: list[Any] = []

    @idempotent
    def view(request: Any) -> HttpResponse:
        assert current_operation() is request.idempotency
        seen.append(request.idempotency)
        return HttpResponse()

    call(view, key)
    (operation,) = seen
    assert current_operation() is None
    assert (operation.key, operation.scope, operation.attempt) == (key, "anonymous", 1)
    assert operation.record_id == record_id("anonymous", key)


def test_operation_without_a_key_exists_too() -> None:
    """It has no key, and refuses to make downstream keys."""

    @idempotent
    def view(request: Any) -> HttpResponse:
        assert request.idempotency.key is None
        with pytest.raises(ValueError, match="no downstream keys"):
            request.idempotency.downstream_key("charge")
        return HttpResponse()

    assert call(view).status_code == 200


def test_downstream_key_is_the_same_in_every_attempt(key: str) -> None:
    """It does not depend on the record's row, so a lost row makes no difference."""
    keys: list[str] = []

    @idempotent
    def view(request: Any) -> HttpResponse:
        keys.extend(map(request.idempotency.downstream_key, ("charge", "courier")))
        return HttpResponse(status=503)

    call(view, key)
    call(view, key)
    IdempotencyRecord.objects.all().delete()
    call(view, key)
    assert keys == keys[:2] * 3
    assert len({*keys, str(uuid.UUID(keys[0]))}) == 2
    call(view, key, '{"other": 1}')
    assert len(set(keys)) == 4


def test_view_called_by_a_view_of_the_same_operation_passes_through(key: str) -> None:
    """A request claims once."""

    @idempotent
    def inner(request: Any) -> HttpResponse:
        return JsonResponse({"nonce": uuid.uuid4().hex})

    @idempotent
    def outer(request: Any) -> HttpResponse:
        return inner(request)

    assert call(outer, key).content == call(outer, key).content
    assert IdempotencyRecord.objects.count() == 1


def test_same_request_object_twice_is_protected(key: str) -> None:
    """What the first call left on the request does not switch protection off."""
    runs: list[int] = []

    @idempotent
    def view(request: Any) -> HttpResponse:
        runs.append(1)
        return HttpResponse()

    request = RequestFactory().post("/", headers={"Idempotency-Key": key})
    assert view(request).status_code == 200
    assert view(request)["Idempotent-Replayed"] == "true"
    assert runs == [1]
