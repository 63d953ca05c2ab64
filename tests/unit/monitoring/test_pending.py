"""Where unfinished operations stand."""

import json
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyEnvelope
from django_idempotency.monitoring.pending import pending

pytestmark = pytest.mark.django_db(transaction=True)


class Refused(Exception):
    pass


def _fail(kind: type[Exception], idempotency_key: str) -> None:
    raise kind


def _order(fails: type[Exception] | None, *, keep: bool, key: str) -> Any:
    @idempotent(atomic=False, keep_request=keep)
    def view(request: HttpRequest) -> HttpResponse:
        operation = request.idempotency
        operation.step("order", int)
        if fails:
            operation.call("charge", partial(_fail, fails), fatal=(Refused,))
        return HttpResponse("done")

    headers = {"Idempotency-Key": key}
    request = RequestFactory().post("/", b"{}", content_type="application/json", headers=headers)
    return view(request)


def _told(*args: str) -> str:
    out = StringIO()
    call_command("idempotency_pending", *args, stdout=out)
    return out.getvalue()


def test_finished_operations_are_not_pending() -> None:
    """Neither those with an outcome, nor those that failed for good."""
    _order(None, keep=True, key="a-key-of-somebody")
    assert _order(Refused, keep=True, key="another-key-of-hers").status_code == 409
    assert pending("default") == []
    assert "No operation is unfinished." in _told("--check")


def test_unfinished_operations_stand_at_their_open_step() -> None:
    """The step recorded last, the open one, and whether a completer can finish it."""
    for number, keep in enumerate((True, True, False)):
        with pytest.raises(ConnectionError):
            _order(ConnectionError, keep=keep, key=f"a-key-of-somebody-{number}")
    IdempotencyEnvelope.objects.filter(
        pk=IdempotencyEnvelope.objects.values_list("pk")[:1].get()[0]
    ).update(due_at=None)
    (place,) = pending("default")
    assert (place.after, place.at, place.status) == ("order", "charge", "retrying")
    assert (place.count, place.given_up, place.clients) == (3, 1, 1)
    assert timedelta() <= place.age < timedelta(minutes=1)
    row = _told().splitlines()[1].split()
    assert row[:6] == ["order", "charge", "(retrying)", "3", "1", "1"]


def test_check_fails_while_an_operation_is_unfinished() -> None:
    """A gate for deployments."""
    with pytest.raises(ConnectionError):
        _order(ConnectionError, keep=True, key="a-key-of-somebody")
    with pytest.raises(CommandError, match="1 operations are not finished"):
        _told("--check")
    facts = json.loads(_told("--format", "json"))
    assert [place["count"] for place in facts["pending"]] == [1]
