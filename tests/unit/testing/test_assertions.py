"""The helpers for users' own tests: each works, and each can fail."""

import re
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db.models import DateTimeField
from django.http import HttpResponse, HttpResponseBase
from django.test import Client, TestCase, TransactionTestCase, override_settings
from django.urls import path
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from django_idempotency import testing
from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.testing import (
    IdempotencyAsyncClient,
    IdempotencyClient,
    age_record,
    age_records,
    assert_idempotent,
    assert_not_replayed,
    assert_replayed,
    fresh_headers,
    protection_off,
)
from tests.app import effects, views
from tests.app.models import Order
from tests.app.urls import urlpatterns as app_urls
from tests.conftest import Post

pytestmark = [pytest.mark.django_db(databases=["default", "other"]), pytest.mark.urls(__name__)]

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MARK = "Idempotent-Replayed"
JSON = {"cake": "lemon"}


def _refuse(response: Any) -> None:
    response.status_code = 409
    del response[MARK]


# The faults that a replay can have, and what the message says.
FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "body": (lambda response: setattr(response, "content", b"{}"), r"body 201 b'{\"n.*201 b'{}'"),
    "status": (lambda response: setattr(response, "status_code", 200), "status 201, then 200"),
    "header": (lambda response: response.__setitem__("Location", "/"), "location '.*', then '/'"),
    "no-header": (lambda response: response.headers.pop("Link"), "link '.*', then None"),
    "effect": (lambda response: Order.objects.create(), r"again: effects\(\) went from 1 to 2"),
    "mark": (lambda response: response.headers.pop(MARK), "again: no replay came, but 201"),
    "refusal": (_refuse, "repeated request was refused: 409"),
}


def faulty(request: Any, fault: str) -> HttpResponseBase:
    """A view that is idempotent except for one fault."""
    response: HttpResponseBase = views.function(request)
    if MARK in response:
        FAULTS[fault][0](response)
    return response


def dated(request: Any) -> HttpResponseBase:
    """A view behind a slow server."""
    response: HttpResponseBase = views.function(request)
    day = 2 if MARK in response else 1
    response["Date"] = f"Thu, 0{day} Jan 1970 00:00:00 GMT"
    return response


def always_replays(request: Any) -> HttpResponseBase:
    """A view whose every reply claims to be a replay."""
    return HttpResponse("saved", headers={MARK: "true"})


@idempotent
def without_effects(request: Any) -> HttpResponseBase:
    """A view without effects."""
    return HttpResponse("hello")


@idempotent(fingerprint=lambda request: b"")
def comparing_nothing(request: Any) -> HttpResponseBase:
    """A view that does not tell requests with the same key apart."""
    response: HttpResponseBase = views.kitchen(request)
    return response


urlpatterns = [
    *app_urls,
    path("faulty/<str:fault>/", faulty),
    path("dated/", dated),
    path("always-replays/", always_replays),
    path("without_effects/", without_effects),
    path("comparing_nothing/", comparing_nothing),
]


def posting(url: str, data: Any = None) -> Callable[[dict[str, str]], Any]:
    """A call for ``assert_idempotent``."""
    return lambda headers: Client().post(url, data, headers=headers)


def keys() -> list[str]:
    """The keys of all records, the oldest first."""
    return [*IdempotencyRecord.objects.order_by("created_at").values_list("key", flat=True)]


class _InTestCases:
    """Tests as users write them, for both kinds of test case."""

    client: Any
    client_class: Any = IdempotencyClient
    databases: Any = "__all__"

    def test_repeat_is_replayed(self) -> None:
        """The client repeats its last request."""
        assert_not_replayed(self.client.post("/function/", JSON))
        assert_replayed(self.client.repeat())
        assert Order.objects.count() == effects.count() == 1

    def test_idempotent_view_passes(self) -> None:
        """With effects, another request, and three calls."""
        response = assert_idempotent(
            posting("/function/", JSON),
            effects=Order.objects.count,
            other=posting("/function/", {"cake": "cherry"}),
            times=3,
        )
        assert Order.objects.count() == effects.count() == 1
        assert response.json()["nonce"] == Order.objects.get().nonce

    def test_unprotected_view_fails(self) -> None:
        """In both kinds of test case."""
        with pytest.raises(AssertionError, match="ran the view again"):
            assert_idempotent(posting("/bare/"), effects=Order.objects.count)

    def test_aged_record_runs_anew(self) -> None:
        """In the test's own transaction, too."""
        self.client.post("/function/", JSON)
        age_records(timedelta(hours=25))
        assert_not_replayed(self.client.repeat())
        assert Order.objects.count() == effects.count() == 2

    @protection_off()
    def test_switched_off_runs_twice(self) -> None:
        """With the decorator on a method."""
        self.client.post("/function/", JSON)
        assert_not_replayed(self.client.repeat())
        assert Order.objects.count() == effects.count() == 2


class InTestCase(_InTestCases, TestCase):
    """Everything joins the test's own transaction."""

    async def test_repeat_is_awaited(self) -> None:
        """By the asynchronous client."""
        client = IdempotencyAsyncClient()
        assert_not_replayed(await client.post("/function/", JSON))
        assert_replayed(await client.repeat())
        assert await Order.objects.acount() == effects.count() == 1

    async def test_async_test_asserts_by_way_of_sync_to_async(self) -> None:
        """The calls are awaited in the test's own loop."""
        client = IdempotencyAsyncClient()
        check = sync_to_async(assert_idempotent)
        await check(
            lambda headers: client.post("/function/", JSON, headers=headers),
            effects=Order.objects.count,
        )
        assert await Order.objects.acount() == effects.count() == 1
        with pytest.raises(AssertionError, match="ran the view again"):
            await check(lambda headers: client.post("/bare/", headers=headers))


class InTransactionTestCase(_InTestCases, TransactionTestCase):
    """Every test has real transactions."""


@protection_off()
class SwitchedOff(TestCase):
    """The decorator on a whole test case."""

    databases = "__all__"

    def test_key_is_not_required(self) -> None:
        """A missing key is accepted, and a repeated key runs twice."""
        assert self.client.post("/required/").status_code == 201


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found_out(fault: str) -> None:
    """Each fault of a replay has a message of its own."""
    with pytest.raises(AssertionError, match=FAULTS[fault][1]):
        assert_idempotent(posting(f"/faulty/{fault}/"), effects=Order.objects.count)


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"effect"}))
def test_fault_is_found_out_by_its_replies(fault: str) -> None:
    """Even if no effects are counted."""
    with pytest.raises(AssertionError):
        assert_idempotent(posting(f"/faulty/{fault}/"))


def test_later_repeat_is_checked_as_well() -> None:
    """A view that fails at the third call is found out."""
    urls = iter(["/function/", "/function/", "/bare/"])
    with pytest.raises(AssertionError, match="ran the view again"):
        assert_idempotent(lambda headers: posting(next(urls))(headers), times=3)
    assert next(urls, None) is None


def test_another_date_is_no_difference() -> None:
    """Servers date each reply."""
    assert_idempotent(posting("/dated/"))


def test_header_of_each_request_may_be_ignored() -> None:
    """For example the header of a middleware that counts requests."""
    assert_idempotent(posting("/faulty/header/"), ignore_headers=["LOCATION"])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/always-replays/", "The first request, with a fresh key, got a replay: 200 b'saved'"),
        ("/without_effects/", "had no effect: effects() went from 0 to 0, and the reply was 200"),
        ("/function/?act=unauthorized", "effects() went from 1 to 2, and the reply was 401"),
    ],
)
def test_wrong_view_fails_with_a_clear_message(url: str, message: str) -> None:
    """The message says what happened."""
    with pytest.raises(AssertionError, match=re.escape(message)):
        assert_idempotent(posting(url), effects=Order.objects.count)


def test_reply_that_frees_its_key_is_named() -> None:
    """A request that is invalid has no outcome to replay, and the message says so."""
    with pytest.raises(AssertionError, match=r"first reply was 401 .* frees the key"):
        assert_idempotent(posting("/function/?act=unauthorized"))


def test_call_without_the_headers_fails() -> None:
    """The message asks whether the headers were sent."""
    with pytest.raises(AssertionError, match=r"does call.. send the headers"):
        assert_idempotent(lambda headers: Client().post("/function/"))


def test_call_that_sends_another_request_fails() -> None:
    """A file that was read to its end is sent empty the second time."""
    file = BytesIO(b"recipe")
    with pytest.raises(AssertionError, match=r"refused: 422 (.|\n)*the same request each time"):
        assert_idempotent(posting("/function/", {"file": file}))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (posting("/comparing_nothing/", {"cake": "cherry"}), "key was not refused: 201"),
        (lambda headers: Client().post("/function/"), "key ran the view: .* from 1 to 2"),
    ],
    ids=["replayed", "run"],
)
def test_other_request_that_is_not_refused_fails(other: Any, message: str) -> None:
    """It must be neither run nor answered with the wrong reply."""
    with pytest.raises(AssertionError, match=message):
        assert_idempotent(
            posting("/comparing_nothing/", JSON), effects=Order.objects.count, other=other
        )


def test_one_call_is_not_enough() -> None:
    """A single call would prove nothing."""
    with pytest.raises(ValueError, match="2 or more"):
        assert_idempotent(posting("/function/"), times=1)


@pytest.mark.parametrize(
    "act", ["order", "latin", "binary", "no_content", "redirect", "page", "file"]
)
def test_every_kind_of_response_passes(act: str) -> None:
    """The test can still read a file's body afterwards."""
    response = assert_idempotent(posting(f"/function/?act={act}"), effects=effects.count)
    assert response.getvalue() or act in ("no_content", "redirect")


def test_body_too_large_to_keep_passes(settings: Settings) -> None:
    """The replay has no body, and says so."""
    settings.IDEMPOTENCY_MAX_RESPONSE_BYTES = 10
    assert_idempotent(posting("/function/"), effects=effects.count)


def test_async_calls_are_awaited() -> None:
    """From a synchronous test; ``effects`` may be a coroutine function as well."""
    client = IdempotencyAsyncClient()
    assert_idempotent(
        lambda headers: client.post("/function/", JSON, headers=headers),
        effects=Order.objects.acount,
        other=lambda headers: client.post("/function/", headers=headers),
    )
    assert Order.objects.count() == effects.count() == 1


def test_unprotected_view_fails_the_async_client() -> None:
    """The assertion fails for coroutines as it does for functions."""
    client = IdempotencyAsyncClient()
    with pytest.raises(AssertionError, match="ran the view again"):
        assert_idempotent(
            lambda headers: client.post("/bare/", headers=headers), effects=Order.objects.acount
        )


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_other_libraries_responses_pass(live_server: LiveServer) -> None:
    """Over a real connection, where each reply has its own Date."""
    url = f"{live_server.url}/exempt/"
    assert_idempotent(lambda headers: httpx.post(url, headers=headers), effects=effects.count)


def test_reply_of_its_own_is_no_replay() -> None:
    """The message shows how the reply begins."""
    response = Client().post("/function/?act=binary")
    with pytest.raises(AssertionError, match=r"no replay, .*: 200 b'\\x00\\x01.*'\.\.\.$"):
        assert_replayed(response)
    assert_not_replayed(response)


def test_long_body_is_cut_in_messages() -> None:
    """A page of HTML would hide the rest."""
    response = Client().post("/function/?act=binary")
    with pytest.raises(AssertionError) as caught:
        assert_replayed(response)
    assert repr(response.content[:200])[1:-1] in str(caught.value)
    assert response.content[-32:].decode() not in str(caught.value)


def test_replay_is_no_reply_of_its_own() -> None:
    """The message shows the reply."""
    response = Client().post("/always-replays/")
    with pytest.raises(AssertionError, match=r"a replay, and .*: 200 b'saved'$"):
        assert_not_replayed(response)
    assert_replayed(response)


def test_stream_is_not_read_for_a_message() -> None:
    """A stream may never end."""
    response = Client().post("/function/?act=file")
    with pytest.raises(AssertionError, match="200, a stream"):
        assert_replayed(response)
    assert len(response.getvalue()) == 3200


def test_client_sends_a_fresh_key_each_time() -> None:
    """It remembers the last key."""
    client = IdempotencyClient()
    client.post("/function/", JSON)
    client.post("/function/", JSON)
    assert Order.objects.count() == 2
    first, second = keys()
    assert UUID.fullmatch(first)
    assert first != second == client.last_key


@pytest.mark.parametrize("method", ["get", "put"])
def test_client_sends_no_key_with_an_uncovered_method(method: str) -> None:
    """Then there is nothing to repeat."""
    client = IdempotencyClient()
    getattr(client, method)("/function/")
    assert client.last_key == ""
    with pytest.raises(RuntimeError, match="nothing to repeat"):
        client.repeat()


@pytest.mark.parametrize(
    ("made", "given"),
    [
        ({}, {"headers": {"idempotency-key": "k" * 16}}),
        ({}, {"HTTP_IDEMPOTENCY_KEY": "k" * 16}),
        ({"headers": {"Idempotency-Key": "k" * 16}}, {}),
        ({"HTTP_IDEMPOTENCY_KEY": "k" * 16}, {}),
    ],
    ids=["header", "wsgi", "client-header", "client-wsgi"],
)
def test_given_key_is_left_alone(made: Any, given: Any) -> None:
    """In every way to give one."""
    client = IdempotencyClient(**made)
    client.post("/function/", JSON, **given)
    assert keys() == ["k" * 16] == [client.last_key]
    assert_replayed(client.repeat())


def test_given_key_may_be_repeated_whatever_the_method() -> None:
    """A view may cover more methods than the project's default."""
    client = IdempotencyClient()
    client.put("/function/", JSON, "application/json", headers={"Idempotency-Key": "k" * 16})
    assert client.repeat().request["REQUEST_METHOD"] == "PUT"
    assert client.last_key == "k" * 16


def test_repeat_sends_the_same_bytes() -> None:
    """Those of a file, too; a request that followed a redirect is not repeated."""
    client = IdempotencyClient()
    data = {"file": BytesIO(b"recipe"), "cake": "lemon"}
    client.post("/function/?act=redirect", data, follow=True)
    replay = client.repeat()
    assert Order.objects.count() == 1
    assert_replayed(replay)
    assert replay.request["REQUEST_METHOD"] == "POST"


@override_settings(
    IDEMPOTENCY_HEADER=["X-Request-Key", "Idempotency-Key"], IDEMPOTENCY_METHODS=["PUT"]
)
@pytest.mark.parametrize("client_class", [IdempotencyClient, Client])
def test_settings_reach_clients_and_assertions(client_class: type[Client]) -> None:
    """The first of several header names is used by our clients and with Django's."""
    client = client_class()
    assert list(fresh_headers()) == ["X-Request-Key"]
    assert_idempotent(
        lambda headers: client.put("/function/", headers=headers), effects=Order.objects.count
    )


@override_settings(IDEMPOTENCY_METHODS=["PUT"])
def test_client_sends_keys_with_the_project_s_methods() -> None:
    """It sends no keys with others."""
    client = IdempotencyClient()
    client.put("/function/")
    assert keys() == [client.last_key]
    client.post("/function/")
    assert Order.objects.count() == 2
    assert keys() == [client.last_key]


@pytest.mark.parametrize("name", ["idempotency-key", "Idempotency_Key"])
def test_async_client_leaves_a_given_key_alone(name: str) -> None:
    """The key may be a header of the request or of the client."""
    client = IdempotencyAsyncClient(headers={name: "k" * 16})
    assert_idempotent(lambda headers: client.post("/function/", headers=headers))
    assert client.last_key != "k" * 16
    with pytest.raises(AssertionError, match=r"no replay came|got a replay"):
        assert_idempotent(lambda headers: client.post("/function/"))
    assert client.last_key == "k" * 16


@pytest.mark.drf
@pytest.mark.parametrize("format", ["json", "multipart"])
def test_client_of_rest_framework_does_the_same(format: str) -> None:
    """In REST framework's formats."""
    client = testing.IdempotencyAPIClient()
    assert_not_replayed(client.post("/mixin/", JSON, format=format))
    assert_replayed(client.repeat())
    assert keys() == [client.last_key]
    assert_idempotent(
        lambda headers: client.post("/mixin/", JSON, format=format, headers=headers),
        effects=Order.objects.count,
        other=lambda headers: client.post("/mixin/", headers=headers),
    )
    with pytest.raises(AssertionError, match="ran the view again"):
        assert_idempotent(lambda headers: client.post("/viewset/free/", headers=headers))


def test_all_times_move_by_the_same_amount(key: str, post: Post) -> None:
    """Nothing else changes."""
    post("/function/", key)
    before: Any = IdempotencyRecord.objects.values().get()
    record = age_record(key, timedelta(days=400, microseconds=7))
    after: Any = IdempotencyRecord.objects.values().get()
    times = {f.name for f in record._meta.fields if isinstance(f, DateTimeField)}
    assert {name for name in before if before[name] != after[name]} == times
    assert {before[name] - after[name] for name in times} == {timedelta(days=400, microseconds=7)}
    assert record.claimed_at == after["claimed_at"]


def test_unfinished_record_can_be_aged(key: str, post: Post) -> None:
    """A time that is NULL stays NULL."""
    post("/function/", key, act="unauthorized")
    assert age_record(key, timedelta(days=1)).completed_at is None


@pytest.mark.parametrize(("hours", "orders"), [(23, 1), (25, 2)])
def test_retention_is_over_when_a_record_is_old_enough(
    key: str, post: Post, hours: int, orders: int
) -> None:
    """Then its key may carry another request."""
    post("/function/", key)
    age_record(IdempotencyRecord.objects.get(), timedelta(hours=hours))
    post("/function/", key)
    assert Order.objects.count() == effects.count() == orders


@pytest.mark.parametrize(("seconds", "status"), [(50, 409), (61, 401)])
def test_lease_is_over_when_a_record_is_old_enough(
    key: str, post: Post, seconds: int, status: int
) -> None:
    """Then a duplicate of a dead worker's request takes over."""
    post("/plainly/", key, act="unauthorized")
    IdempotencyRecord.objects.update(status=Status.IN_PROGRESS)
    age_record(key, timedelta(seconds=seconds))
    response = post("/plainly/", key, act="unauthorized")
    assert effects.count() == (2 if status == 401 else 1)
    assert response.status_code == status


def test_records_are_aged_by_filter(post: Post) -> None:
    """The result says how many matched."""
    for name in ("a", "b", "c"):
        post("/function/", name * 16)
    assert age_records(timedelta(days=2), key__in=["a" * 16, "b" * 16, "x"]) == 2
    for name in ("a", "b", "c"):
        post("/function/", name * 16)
    assert Order.objects.count() == 5


def test_records_of_another_database_are_aged(settings: Settings, key: str, post: Post) -> None:
    """With the option ``using``."""
    settings.IDEMPOTENCY_USING = "other"
    post("/function/", key)
    assert age_records(timedelta(days=2)) == 0
    first = age_record(key, timedelta(days=2), using="other")
    assert age_record(first, timedelta(days=1)).created_at == first.created_at
    assert IdempotencyRecord.objects.using("other").expired().count() == 1


def test_key_without_a_record_is_not_aged(key: str, post: Post) -> None:
    """Nor is a key that several callers have used."""
    with pytest.raises(IdempotencyRecord.DoesNotExist):
        age_record(key, timedelta(1))
    for name in "ab":
        post("/function/", key, Authorization=name)
    with pytest.raises(IdempotencyRecord.MultipleObjectsReturned):
        age_record(key, timedelta(1))


def test_documentation_names_every_helper() -> None:
    """In the code's own spelling."""
    page = (Path(__file__).parents[3] / "docs" / "testing.rst").read_text()
    named = set(re.findall(r"``(\w+)", page))
    assert {*testing.__all__, "IdempotencyAPIClient"} <= named


def test_protection_is_off_inside_only(key: str, post: Post) -> None:
    """Two orders inside the block, one outside; inside, no record and no required key."""
    with protection_off():
        assert [post("/function/", key).status_code for _ in "12"] == [201, 201]
        assert post("/required/").status_code == 201
        assert not IdempotencyRecord.objects.exists()
    post("/function/", key)
    assert_replayed(post("/function/", key))
    assert Order.objects.count() == effects.count() == 4
    assert post("/required/").status_code == 400
