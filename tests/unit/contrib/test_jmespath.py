"""Keys and fingerprints from a part of the body."""

import hashlib
import json
from importlib.util import find_spec
from typing import Any

import pytest
from django.core.exceptions import BadRequest, ImproperlyConfigured
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.views import View

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.app import effects
from tests.app.views import kitchen

pytest.importorskip("jmespath")

from django_idempotency.contrib.jmespath import body_fingerprint, body_key

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

# The sender signs its events, so the sender is the scope.
webhook = idempotent(get_key=body_key("event.id"), scope=lambda request: "sender", required=True)
cakes = idempotent(fingerprint=body_fingerprint("[cake, amount]"))


@webhook
def event(request: Any) -> Any:
    """An event that is delivered more than once."""
    return kitchen(request)


@cakes
def order(request: Any) -> Any:
    """An order whose client adds the time at which it sends."""
    return kitchen(request)


paid = idempotent(
    get_key=body_key("id"),
    scope=lambda request: f"payments {request.path}",
    fingerprint=body_fingerprint("id"),
    required=True,
)(kitchen)

urlpatterns = [
    path("event/", event),
    path("order/", order),
    path("paid/", paid),
    path("booked/", paid),
]
if find_spec("rest_framework"):
    from tests.app.api import Api

    urlpatterns += [
        path("api-event/", webhook(Api.as_view())),
        path("api-order/", cakes(type("Orders", (Api,), {}).as_view())),
    ]

EVENTS = ["/event/", pytest.param("/api-event/", marks=pytest.mark.drf)]
ORDERS = ["/order/", pytest.param("/api-order/", marks=pytest.mark.drf)]


def send(url: str, body: Any, key: str | None = None, **options: Any) -> HttpResponse:
    """POST JSON."""
    headers = {"Idempotency-Key": key} if key else {}
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    options = {"content_type": "application/json", **options}
    sent: Any = Client().post(url, text, headers=headers, **options)
    return sent  # type: ignore[no-any-return]


def test_event_goes_to_two_endpoints_and_changes_between_deliveries() -> None:
    """The recipe of the documentation: once at each endpoint."""
    for pending in (2, 1, 0):
        for url in ("/paid/", "/booked/"):
            assert send(url, {"id": "evt_1", "pending_webhooks": pending}).status_code == 201
    assert effects.count() == 2
    assert send("/paid/", {"pending_webhooks": 2}).status_code == 400


@pytest.mark.parametrize("url", EVENTS)
def test_event_delivered_twice_runs_once(url: str) -> None:
    """The header is ignored, and the rest of the body must be the same."""
    replies = [send(url, {"event": {"id": "evt_1"}}, key) for key in ("one", "two", None)]
    assert effects.count() == 1
    assert len({reply.content for reply in replies}) == 1
    assert IdempotencyRecord.objects.get().key == "evt_1"
    assert send(url, {"event": {"id": "evt_2"}}).status_code == 201
    assert send(url, {"event": {"id": "evt_2", "type": "paid"}}).status_code == 422
    assert effects.count() == 2


@pytest.mark.parametrize("url", EVENTS)
def test_rest_of_an_event_is_compared_without_loss_of_precision(url: str) -> None:
    """Two numbers that are the same float are two events."""
    for amount, status in (("9007199254740992.0", 201), ("9007199254740993.0", 422)):
        body = f'{{"event": {{"id": "evt_1", "amount": {amount}}}}}'
        assert send(url, body).status_code == status
    assert effects.count() == 1


@pytest.mark.parametrize("url", EVENTS)
@pytest.mark.parametrize(
    "body",
    [{}, [], {"event": {}}, {"event": {"id": None}}, {"event": {"id": "ü"}}, "{", "", "[" * 9999],
    ids=["no-event", "list", "no-id", "null", "no-ascii", "broken", "empty", "deep"],
)
def test_body_without_a_key_is_refused(body: Any, url: str) -> None:
    """400, and nothing runs."""
    assert send(url, body).status_code == 400
    assert effects.count() == 0


@pytest.mark.parametrize("url", ORDERS)
def test_only_the_named_part_is_compared(url: str, key: str) -> None:
    """The time stamp may change; cake, amount, path and query may not."""
    first = send(url, {"cake": "lemon", "amount": 1, "sent_at": "12:00"}, key)
    again = send(url, {"amount": 1, "sent_at": "12:01", "cake": "lemon"}, key)
    assert effects.count() == 1
    assert first.content == again.content
    assert send(url, {"cake": "lemon", "amount": 2}, key).status_code == 422
    assert send(f"{url}?a=1", {"cake": "lemon", "amount": 1}, key).status_code == 422
    assert effects.count() == 1


@pytest.mark.parametrize("url", ORDERS)
def test_requests_without_the_named_part_are_compared_whole(url: str, key: str) -> None:
    """Two requests are not equal because neither has a cake."""
    assert send(url, {"pie": "apple"}, key).status_code == 201
    assert send(url, {"pie": "plum"}, key).status_code == 422
    assert effects.count() == 1


@pytest.mark.parametrize("url", ORDERS)
def test_part_of_a_form_is_compared(url: str, key: str) -> None:
    """Another boundary and another time stamp make the same request."""
    headers = {"Idempotency-Key": key}
    for sent_at in ("12:00", "12:01"):
        data = {"cake": "lemon", "amount": "1", "sent_at": sent_at}
        assert Client().post(url, data, headers=headers).status_code == 201
    assert effects.count() == 1
    data["amount"] = "2"
    assert Client().post(url, data, headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("text", "abc"),
        ("number", "17"),
        ("yes", hashlib.sha256(b"true").hexdigest()),
        ("[text, number]", hashlib.sha256(b'["abc",17]').hexdigest()),
        ("[text, missing]", hashlib.sha256(b'["abc",null]').hexdigest()),
        ("{b: text, a: number}", hashlib.sha256(b'{"a":17,"b":"abc"}').hexdigest()),
        ("missing", None),
        ("[missing, missing]", None),
        ("{a: missing}", None),
    ],
)
def test_what_the_expression_finds_becomes_the_key(expression: str, key: str | None) -> None:
    """A text as it is, a composite as its digest; None if nothing is found."""
    body = json.dumps({"text": "abc", "number": 17, "yes": True})
    request = RequestFactory().post("/", body, content_type="application/json")
    assert body_key(expression)(request) == key


def test_fields_of_a_form_are_found() -> None:
    """A field sent once is a text, a field sent more often a list."""
    request = RequestFactory().post("/", {"one": "1", "two": ["1", "2"]})
    assert body_key("one")(request) == "1"
    assert body_key("two[1]")(request) == "2"


@pytest.mark.parametrize("label", ["application/xml", "text/html; charset=utf-8", "image/png"])
def test_body_of_another_type_gives_no_key(label: str) -> None:
    """Its label says that it is no JSON, whatever its bytes look like."""
    request = RequestFactory().post("/", b'{"id": "1"}', content_type=label)
    assert body_key("id")(request) is None


@pytest.mark.parametrize(
    "label", ["text/plain; charset=UTF-8", "text/json", "application/x-json", ""]
)
def test_json_is_found_under_labels_that_do_not_forbid_it(label: str) -> None:
    """AWS SNS sends text/plain; a text that is no JSON gives no key."""
    request = RequestFactory().post("/", b'{"id": "1"}', content_type=label)
    assert body_key("id")(request) == "1"
    request = RequestFactory().post("/", b"id: 1", content_type=label)
    assert body_key("id")(request) is None


@pytest.mark.parametrize("option", [body_key, body_fingerprint])
def test_bad_expression_fails_at_import(option: Any) -> None:
    """It does not wait for a request."""
    with pytest.raises(ImproperlyConfigured, match="JMESPath"):
        option("[cake")


def test_body_that_does_not_suit_the_expression_is_refused() -> None:
    """A number has no length."""
    request = RequestFactory().post("/", b'{"cake": 1}', content_type="application/json")
    with pytest.raises(BadRequest):
        body_key("length(cake)")(request)


def test_attribute_of_a_class_takes_a_body_key() -> None:
    """As attributes; the callable is not bound to the view."""
    from django_idempotency.views import IdempotencyMixin

    class Event(IdempotencyMixin, View):
        idempotency_get_key = body_key("id")

    options = Event().get_idempotency_options()
    request = RequestFactory().post("/", b'{"id": "x"}', content_type="application/json")
    assert options["get_key"](request) == "x"
