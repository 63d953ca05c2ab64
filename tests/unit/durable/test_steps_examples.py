"""The examples of docs/steps.rst, which includes them from here, and what it says of them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from django_idempotency.durable.completer import Completion, complete
from django_idempotency.exceptions import NotDoneError, OperationFailedError
from django_idempotency.models import IdempotencyEnvelope, IdempotencyRecord
from django_idempotency.retry import Retry
from django_idempotency.testing import IdempotencyClient, assert_idempotent
from tests.app.models import Order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

Reply = dict[str, Any]


class CardDeclinedError(Exception):
    """The bank says no."""


class NoCourierError(Exception):
    """Nobody comes."""


class Partner:
    """Another company, which does what it is asked once for each key unless there is trouble."""

    def __init__(self) -> None:
        self.done: dict[str, str] = {}
        self.asked: list[str] = []
        self.trouble: Exception | None = None

    def _do(self, what: str, key: str) -> Reply:
        self.asked.append(key)
        if self.trouble:
            raise self.trouble
        self.done.setdefault(key, what)
        return {"id": key[:8], "what": what}

    def charge(self, order: int, *, cents: int, idempotency_key: str, timeout: float) -> Reply:
        return self._do(f"charge {cents}", idempotency_key)

    def refund(self, charge: Reply, *, idempotency_key: str) -> Reply:
        return self._do(f"refund {charge['id']}", idempotency_key)

    def book(self, order: int, *, idempotency_key: str) -> Reply:
        return self._do("book", idempotency_key)

    def send(self, order: int, *, idempotency_key: str) -> Reply:
        return self._do("send", idempotency_key)

    def find(self, *, key: str) -> Reply | None:
        return {"id": key[:8]} if key in self.done else None


psp, courier, mail = Partner(), Partner(), Partner()


@pytest.fixture(autouse=True)
def partners() -> Iterator[None]:
    """Each test has new ones."""
    yield
    for partner in (psp, courier, mail):
        Partner.__init__(partner)


@pytest.fixture
def shop() -> IdempotencyClient:
    """A customer whose requests bear keys."""
    return IdempotencyClient(raise_request_exception=False)


AGAIN = Retry(attempts=4, base=timedelta(seconds=0.1), deadline=timedelta(seconds=5))


@idempotent(required=True, atomic=False, keep_request=True)
def place_order(request: Any) -> JsonResponse:
    op = request.idempotency
    order = op.step("order", make_order, request.POST["cake"], undo=cancel_order)
    charge = op.call(
        "charge",
        psp.charge,
        order["id"],
        cents=2500,
        retry=AGAIN,
        fatal=(CardDeclinedError,),
        timeout=timedelta(seconds=3),
        undo=psp.refund,
    )
    op.call("courier", courier.book, order["id"], retry=AGAIN, fatal=(NoCourierError,))
    op.step("paid", mark_paid, order["id"], charge["id"])
    op.call("receipt", mail.send, order["id"], semantics="at_most_once", reconcile=find_receipt)
    return JsonResponse(order, status=201)


def make_order(cake: str) -> dict[str, Any]:
    order = Order.objects.create(nonce=cake)
    return {"id": order.pk}


def cancel_order(order: dict[str, Any]) -> None:
    Order.objects.filter(pk=order["id"]).delete()


def mark_paid(order: int, charge: str) -> None:
    Order.objects.filter(pk=order).update(nonce=charge)


def find_receipt(order: int, *, idempotency_key: str) -> dict[str, Any]:
    receipt = mail.find(key=idempotency_key)
    if receipt is None:
        raise NotDoneError
    return receipt


@idempotent(required=True, atomic=False)
def refuse_politely(request: Any) -> JsonResponse:
    op = request.idempotency
    try:
        op.call("courier", courier.book, 7, fatal=(NoCourierError,))
    except OperationFailedError as error:
        return JsonResponse({"failed": error.step}, status=402)
    return JsonResponse({}, status=201)


@idempotent(required=True, atomic=False)
def pack_order(request: Any) -> JsonResponse:
    op = request.idempotency
    with op.atomic("order") as step:
        if not step.recorded:
            step.result = Order.objects.create(nonce="box").pk
    for cake in request.POST.getlist("cake"):
        op.call("pack", courier.book, cake, key=cake)
    return JsonResponse({"id": step.result}, status=201)


names: Reply = {"name": "courier"}


@idempotent(required=True, atomic=False)
def renamed(request: Any) -> HttpResponse:
    """A view whose step has another name, or arguments, after a deployment."""
    arguments = names.get("arguments", ())
    extra = {"aliases": names.get("aliases", ())}
    request.idempotency.call(names["name"], courier.book, *arguments or (7,), **extra)
    return HttpResponse(status=names.get("status", 503))


urlpatterns = [
    path("orders/", place_order),
    path("politely/", refuse_politely),
    path("pack/", pack_order),
    path("renamed/", renamed),
]


def test_order_is_placed_once(client: Client) -> None:
    """Rows, charge, courier and receipt; a repetition makes no call."""
    response = assert_idempotent(
        lambda headers: client.post("/orders/", {"cake": "lemon"}, headers=headers),
        effects=lambda: (Order.objects.count(), psp.asked, courier.asked, mail.asked),
    )
    assert response.status_code == 201
    assert [*psp.done.values(), *courier.done.values(), *mail.done.values()] == [
        "charge 2500",
        "book",
        "send",
    ]
    assert not IdempotencyEnvelope.objects.exists()


def test_retry_goes_on_after_the_last_recorded_step(shop: IdempotencyClient) -> None:
    """One row; the charge is asked for again, with the same key."""
    psp.trouble = TimeoutError()
    first = shop.post("/orders/", {"cake": "lemon"})
    assert (first.status_code, first["Retry-After"]) == (503, "1")
    assert first.json()["code"] == "idempotency_operation_pending"
    assert (Order.objects.count(), len(psp.asked)) == (1, 4)
    psp.trouble = None
    assert shop.repeat().status_code == 201
    assert (Order.objects.count(), len(psp.asked), len(set(psp.asked))) == (1, 5, 1)


def test_completer_goes_on_without_the_client(shop: IdempotencyClient) -> None:
    """A client that comes back later gets the reply."""
    courier.trouble = ConnectionError()
    assert shop.post("/orders/", {"cake": "lemon"}).status_code == 503
    courier.trouble = None
    record = IdempotencyRecord.objects.get()
    assert complete("default", record.pk).completion is Completion.COMPLETED
    assert (Order.objects.count(), list(psp.done.values())) == (1, ["charge 2500"])
    assert not IdempotencyEnvelope.objects.exists()
    reply = shop.repeat()
    assert (reply.status_code, reply["Idempotent-Replayed"]) == (201, "true")


def test_what_was_done_before_a_fatal_failure_is_taken_back(shop: IdempotencyClient) -> None:
    """The last first, and once; every repetition comes to the same end."""
    courier.trouble = NoCourierError()
    for _ in range(2):
        response = shop.repeat() if psp.asked else shop.post("/orders/", {"cake": "lemon"})
        assert response.status_code == 409
        assert response.json()["code"] == "idempotency_operation_failed"
        assert Order.objects.count() == 0
        charge, refund = psp.done.values()
        assert (charge, refund) == ("charge 2500", f"refund {psp.asked[0][:8]}")
        assert (len(psp.asked), len(courier.asked)) == (2, 1)


def test_declined_card_needs_no_refund(shop: IdempotencyClient) -> None:
    """A step that failed was not done."""
    psp.trouble = CardDeclinedError()
    assert shop.post("/orders/", {"cake": "lemon"}).status_code == 409
    assert (Order.objects.count(), len(psp.asked), courier.asked) == (0, 1, [])


def test_view_may_answer_a_failure_in_its_own_words(shop: IdempotencyClient) -> None:
    """Its reply is an outcome, and is kept."""
    courier.trouble = NoCourierError()
    assert shop.post("/politely/").json() == {"failed": "courier"}
    courier.trouble = None
    reply = shop.repeat()
    assert (reply.status_code, reply["Idempotent-Replayed"]) == (402, "true")
    assert len(courier.asked) == 1


def test_receipt_that_was_not_sent_is_sent_by_the_next_attempt(shop: IdempotencyClient) -> None:
    """This attempt learns that it was not sent, and does not send it a second time."""
    mail.trouble = ConnectionError()
    assert shop.post("/orders/", {"cake": "lemon"}).status_code == 503
    assert len(mail.asked) == 1
    mail.trouble = None
    assert shop.repeat().status_code == 201
    assert len(mail.asked) == 2


def test_receipt_that_was_sent_is_not_sent_again(
    shop: IdempotencyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was lost, and asking brings it."""

    def lose(order: int, *, idempotency_key: str) -> Reply:
        Partner.send(mail, order, idempotency_key=idempotency_key)
        raise ConnectionError

    monkeypatch.setattr(mail, "send", lose)
    assert shop.post("/orders/", {"cake": "lemon"}).status_code == 201
    assert len(mail.asked) == 1


def test_outcome_is_unknown_until_reconcile_tells(
    shop: IdempotencyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """409 without Retry-After; an answer of ``reconcile`` ends it."""

    def ask(*, key: str) -> Reply | None:
        raise ConnectionError

    mail.trouble = ConnectionError()
    monkeypatch.setattr(mail, "find", ask)
    for response in (shop.post("/orders/", {"cake": "lemon"}), shop.repeat()):
        assert response.status_code == 409
        assert response.json()["code"] == "idempotency_outcome_unknown"
    assert len(mail.asked) == 1
    monkeypatch.setattr(mail, "find", lambda *, key: {"id": key})
    assert shop.repeat().status_code == 201
    assert len(mail.asked) == 1


def test_blocks_and_loops(shop: IdempotencyClient) -> None:
    """A block runs once; the rounds of a loop are told apart by key=."""
    courier.trouble = ConnectionError()
    assert shop.post("/pack/", {"cake": ["lemon", "carrot"]}).status_code == 500
    courier.trouble = None
    assert shop.repeat().json() == {"id": Order.objects.get().pk}
    assert (len(courier.asked), len(courier.done)) == (3, 2)


@pytest.mark.parametrize("begun", [True, False], ids=["recorded", "not-recorded"])
def test_step_of_another_name_is_the_same_by_its_alias(
    begun: bool, shop: IdempotencyClient
) -> None:
    """Its result is found; where there is none, the key is that of the oldest name."""
    names.update(name="courier", aliases=(), arguments=(7,), status=503)
    courier.trouble = None if begun else ConnectionError()
    shop.post("/renamed/")
    courier.trouble = None
    names.update(name="van", aliases=("bicycle", "courier"), status=201)
    assert shop.repeat().status_code == 201
    assert (len(courier.asked), len(set(courier.asked))) == (1 if begun else 2, 1)


@pytest.mark.parametrize(("drift", "status"), [("error", 500), ("warn", 201)])
def test_changed_arguments_are_noticed(
    drift: str, status: int, shop: IdempotencyClient, settings: Settings
) -> None:
    """An error, or a line in the log; the call is not made again either way."""
    settings.IDEMPOTENCY_STEP_DRIFT = drift
    names.update(name="courier", aliases=(), arguments=(7,), status=503)
    shop.post("/renamed/")
    names.update(arguments=(8,), status=201)
    assert shop.repeat().status_code == status
    assert len(courier.asked) == 1


def _statements(shop: IdempotencyClient, path: str, **data: Any) -> int:
    """How many of the package's own a fresh request takes."""
    with CaptureQueriesContext(connection) as captured:
        shop.post(path, data)
    return sum("django_idempotency_" in query["sql"] for query in captured)


@idempotent(atomic=False)
def one_thing(request: Any) -> HttpResponse:
    """Nothing, a step, or a call."""
    op = request.idempotency
    how = request.POST["how"]
    if how == "step":
        op.step("step", int)
    elif how != "nothing":
        op.call("call", courier.book, 7, semantics=how)
    return HttpResponse(status=int(request.POST.get("status", 200)))


kept = idempotent(atomic=False, keep_request=True)(one_thing.__wrapped__)
urlpatterns += [path("thing/", one_thing), path("kept/", kept)]


def test_costs_are_those_of_the_table(shop: IdempotencyClient) -> None:
    """Statements more than without."""
    without = _statements(shop, "/thing/", how="nothing")
    assert {
        how: _statements(shop, "/thing/", how=how) - without
        for how in ("step", "at_least_once", "at_most_once")
    } == {"step": 2, "at_least_once": 2, "at_most_once": 4}
    assert _statements(shop, "/kept/", how="nothing") - without == 3


def test_attempt_that_goes_on_costs_a_select(shop: IdempotencyClient) -> None:
    """At its first step."""
    counts = []
    for how in ("nothing", "step"):
        shop.post("/thing/", {"how": how, "status": 503})
        with CaptureQueriesContext(connection) as captured:
            shop.repeat()
        counts.append(sum("django_idempotency_" in query["sql"] for query in captured))
    assert counts[1] - counts[0] == 1
