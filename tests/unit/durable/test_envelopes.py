"""Requests that are stored for the completer: what of them, how, and what is made of it again."""

import gzip
import io
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from cryptography.fernet import Fernet
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.test.client import MULTIPART_CONTENT, encode_multipart
from pytest_django import Settings

from django_idempotency.codecs import UndecodableError
from django_idempotency.durable import envelopes
from django_idempotency.durable.envelopes import Resumption, envelope_of, opened, request_of
from django_idempotency.models import IdempotencyEnvelope, IdempotencyRecord, Status
from django_idempotency.storage.records import Store
from tests.app.models import Order
from tests.conftest import Post
from tests.support.stage import (
    ON_STAGE,
    DownError,
    bake,
    completed,
    envelope,
    outcome,
    plays,
    record,
)

pytestmark = ON_STAGE

SECRETS = {
    "Authorization": "Bearer verysecret1",
    "Cookie": "sessionid=verysecret2",
    "X-Api-Key": "verysecret3",
    "Proxy-Authorization": "verysecret4",
    "X-CSRFToken": "verysecret5",
}
BOUNDARY = "BoUnDaRy"


def made_again(request: HttpRequest, user: Any = None) -> Any:
    """What a completer makes of a request."""
    envelope = envelope_of(request)
    assert envelope
    return request_of(envelope, Resumption(mock.Mock()), user)


def asgi(path: str = "/kept/", body: bytes = b"", **scope: Any) -> ASGIRequest:
    """A request as an ASGI server hands it over."""
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], **scope}
    return ASGIRequest(scope, io.BytesIO(body))


@pytest.fixture
def fails() -> list[HttpRequest]:
    """Every view raises; the requests it got."""
    seen: list[HttpRequest] = []

    @plays
    def act(op: Any) -> None:
        seen.append(op.request)
        raise DownError

    return seen


def dumped() -> bytes:
    """Every byte in the tables."""
    pieces: list[Any] = []
    for model in (IdempotencyEnvelope, IdempotencyRecord):
        for row in model.objects.values_list():
            pieces += row
    return b"|".join(
        bytes(piece) if isinstance(piece, bytes | memoryview) else str(piece).encode()
        for piece in pieces
    )


def test_credentials_are_never_stored(key: str, post: Post, fails: list[Any]) -> None:
    """Neither in the envelope nor beside it."""
    assert post("/kept/", key, body={"cake": "recognised"}, **SECRETS).status_code == 500
    assert b"recognised" in dumped()
    assert b"verysecret" not in dumped()


@pytest.mark.parametrize("codec", ["fernet", ["gzip", "fernet"]], ids=repr)
def test_encrypted_request_shows_nothing(
    codec: Any, key: str, post: Post, fails: list[Any], settings: Settings
) -> None:
    """No byte of its body, its query or its headers is in the row."""
    settings.IDEMPOTENCY_FERNET_KEYS = [Fernet.generate_key()]
    settings.IDEMPOTENCY_BODY_CODEC = codec
    settings.IDEMPOTENCY_REQUEST_HEADERS = ["X-Tenant"]
    sent = {"X-Tenant": "tenant-of-hers", "Accept-Language": "tlh"}
    post("/kept/", key, act="query-of-hers", body={"card": "4242"}, **sent)
    row = envelope()
    stored = b"".join((bytes(row.request), row.codec.encode(), row.error.encode()))
    for plain in (b"4242", b"query-of-hers", b"tenant-of-hers", b"tlh", b"POST", b"/kept/"):
        assert plain not in stored
    assert row.codec.endswith("fernet")
    assert json.loads(opened(row).body) == {"card": "4242"}


def test_request_that_cannot_be_decoded_says_so(
    key: str, post: Post, fails: list[Any], settings: Settings
) -> None:
    """Its key was removed."""
    settings.IDEMPOTENCY_BODY_CODEC = "fernet"
    settings.IDEMPOTENCY_FERNET_KEYS = [Fernet.generate_key()]
    post("/kept/", key)
    settings.IDEMPOTENCY_FERNET_KEYS = [Fernet.generate_key()]
    with pytest.raises(UndecodableError):
        opened(envelope())


FORM = {"cake": "lemon", "many": ["1", "2"]}
BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "json": lambda: {"data": b'{"cake": "\xc3\xbc"}', "content_type": "application/json"},
    "urlencoded": lambda: {
        "data": "cake=lemon&many=1&many=2",
        "content_type": "application/x-www-form-urlencoded",
    },
    "multipart": lambda: {
        "data": encode_multipart(
            BOUNDARY, FORM | {"photo": SimpleUploadedFile("a.png", b"\x00\xff\n", "image/png")}
        ),
        "content_type": f"multipart/form-data; boundary={BOUNDARY}",
    },
    "compressed": lambda: {
        "data": gzip.compress(b"cake"),
        "content_type": "text/plain",
        "headers": {"Content-Encoding": "gzip"},
    },
    "empty": lambda: {"data": b"", "content_type": "text/plain"},
    "bytes": lambda: {"data": bytes(range(256)), "content_type": "application/octet-stream"},
}


def parts(request: HttpRequest) -> dict[str, Any]:
    """What a view can read of a request's content."""
    uploaded: Any = request.FILES
    files = {name: (file.name, file.content_type, file.read()) for name, file in uploaded.items()}
    return {
        "method": request.method,
        "type": request.headers.get("Content-Type"),
        "encoding": request.headers.get("Content-Encoding"),
        "form": dict(request.POST.lists()),
        "files": files,
        "body": request.body,
        "query": dict(request.GET.lists()),
        "url": request.build_absolute_uri(),
    }


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_content_is_made_again_as_it_was(body: Any) -> None:
    """Forms, files and bytes; and the first request can still be read."""
    first = RequestFactory().post("/kept/?a=1&a=%C3%BC", **body())
    second = made_again(first)
    assert parts(second) == parts(first)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_view_reads_its_content_beside_the_envelope(body: Any, key: str) -> None:
    """The first time, and when a completer makes the request again."""
    seen = []

    @plays
    def act(op: Any) -> None:
        seen.append(parts(op.request))
        raise DownError

    client = Client(raise_request_exception=False)
    options = body()
    headers = options.pop("headers", {}) | {"Idempotency-Key": key}
    assert client.post("/kept/", headers=headers, **options).status_code == 500
    assert completed() == ["pending"]
    first, second = seen
    assert first == second


@pytest.mark.parametrize("path", ["/kept/", "/kept/törtchen/€/", "/kept/a b%2Fc/", "/🍰/"])
@pytest.mark.parametrize("script", ["", "/shop", "/é"])
def test_path_is_made_again_as_it_was(path: str, script: str) -> None:
    """Through WSGI and ASGI, below a prefix or not."""
    prefix = script.encode().decode("latin-1")
    wsgi = RequestFactory(SCRIPT_NAME=prefix).post(path.replace("%", "%25"))
    for first in (wsgi, asgi(script + path, root_path=script)):
        second = made_again(first)
        assert second.path_info == first.path_info == path
        assert second.path == first.path == script + path
        assert second.get_full_path() == first.get_full_path()


def test_query_through_asgi_is_made_again_as_it_was() -> None:
    """Percent-encoded, and repeated."""
    first = asgi(query_string=b"a=%C3%BC&a=2&b")
    query = dict(made_again(first).GET.lists())
    assert query == dict(first.GET.lists()) == {"a": ["ü", "2"], "b": [""]}


def test_request_through_asgi_is_finished(key: str, fails: list[Any]) -> None:
    """By a completer, which is no ASGI server."""
    plays(lambda op: {"path": op.request.path, "body": op.request.body.decode()})
    first = asgi("/kept/törtchen/€/", b"lemon", headers=[(b"content-length", b"5")])
    first.META["HTTP_IDEMPOTENCY_KEY"] = key
    first.user = AnonymousUser()
    second = made_again(first)
    assert (second.path, second.body) == ("/kept/törtchen/€/", b"lemon")


HOSTS: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "plain": ({}, {"Host": "a.example:8000"}, "http://a.example:8000/kept/"),
    "forwarded": (
        {"USE_X_FORWARDED_HOST": True},
        {"Host": "inner", "X-Forwarded-Host": "a.example"},
        "http://a.example/kept/",
    ),
    "forwarded port": (
        {"USE_X_FORWARDED_HOST": True, "USE_X_FORWARDED_PORT": True},
        {"X-Forwarded-Host": "a.example", "X-Forwarded-Port": "444"},
        "http://a.example/kept/",
    ),
    "not trusted": (
        {},
        {"Host": "a.example", "X-Forwarded-Host": "b.example", "X-Forwarded-Proto": "https"},
        "http://a.example/kept/",
    ),
    "proxied": (
        {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")},
        {"Host": "a.example", "X-Forwarded-Proto": "https"},
        "https://a.example/kept/",
    ),
    "proxied plainly": (
        {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")},
        {"Host": "a.example", "X-Forwarded-Proto": "http"},
        "http://a.example/kept/",
    ),
}


@pytest.mark.parametrize(("options", "headers", "url"), HOSTS.values(), ids=HOSTS)
def test_host_and_scheme_are_those_of_the_first_request(
    options: dict[str, Any], headers: dict[str, str], url: str, settings: Settings
) -> None:
    """Whatever stands between the server and the client."""
    for name, value in options.items():
        setattr(settings, name, value)
    first = RequestFactory().post("/kept/", headers=headers)
    assert first.build_absolute_uri() == url
    second = made_again(first)
    assert second.build_absolute_uri() == url
    assert second.get_port() == first.get_port()


def test_secure_request_stays_secure() -> None:
    """TLS ended in the server itself."""
    first = RequestFactory().post("/kept/", secure=True)
    assert made_again(first).is_secure()


def test_headers_of_the_setting_are_kept(settings: Settings) -> None:
    """A tenant's, say; others are not."""
    settings.IDEMPOTENCY_REQUEST_HEADERS = ["X-Tenant", "X-Missing"]
    headers = {"X-Tenant": "ü", "X-Other": "b", "Accept": "text/html", **SECRETS}
    second = made_again(RequestFactory().post("/kept/", headers=headers))
    assert second.headers["X-Tenant"] == "ü"
    assert second.headers["Accept"] == "text/html"
    assert "X-Missing" not in second.headers
    assert "X-Other" not in second.headers
    assert set(SECRETS).isdisjoint(second.headers)


@pytest.mark.parametrize("door", ["request", "asgi"])
def test_large_body_is_not_stored(
    door: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether its length was announced or not; the log says so, and the view can read it."""
    settings.IDEMPOTENCY_MAX_REQUEST_BYTES = 9
    for body, is_stored in ((b"x" * 9, True), (b"x" * 10, False)):
        first = (
            asgi(body=body)
            if door == "asgi"
            else RequestFactory().post("/kept/", body, content_type="text/plain")
        )
        assert (envelope_of(first) is not None) is is_stored
        assert first.body == body
    assert "POST /kept/ cannot be stored for the completer" in caplog.text


def test_body_that_django_refuses_is_not_stored(settings: Settings) -> None:
    """Its files can be read by the view all the same."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    photo = SimpleUploadedFile("a.png", b"x" * 200, "image/png")
    first: Any = RequestFactory().post("/kept/", {"photo": photo})
    assert envelope_of(first) is None
    assert first.FILES["photo"].read() == b"x" * 200


def test_view_runs_though_its_request_is_not_stored(
    key: str, post: Post, settings: Settings
) -> None:
    """As one that keeps none."""
    settings.IDEMPOTENCY_MAX_REQUEST_BYTES = 3
    plays(lambda op: op.step("ride", bake))
    assert outcome(post("/kept/", key))
    assert Order.objects.count() == 1


def test_form_that_csrf_protection_has_read_is_not_stored(key: str, fails: list[Any]) -> None:
    """A documented limit: multipart streams can be read once. Urlencoded ones are there again."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.cookies["csrftoken"] = token = "a" * 32
    form = {"cake": "lemon", "csrfmiddlewaretoken": token}
    headers = {"Idempotency-Key": key}
    assert client.post("/kept/whole/", form, headers=headers).status_code == 500
    assert not IdempotencyEnvelope.objects.exists()
    encoded = f"cake=lemon&csrfmiddlewaretoken={token}"
    headers["Idempotency-Key"] += "2"
    client.post("/kept/whole/", encoded, "application/x-www-form-urlencoded", headers=headers)
    assert opened(envelope()).body == encoded.encode()


class Machine:
    """A caller that is no row."""

    is_authenticated = True
    pk = 7


def a_user(**values: Any) -> User:
    """A user in the database."""
    return User.objects.create(username="ada", **values)


def test_user_is_named_by_the_primary_key() -> None:
    """An anonymous caller has an empty name."""
    ada = a_user()
    for user, name in ((ada, str(ada.pk)), (AnonymousUser(), ""), (None, "")):
        first = RequestFactory().post("/kept/")
        if user is not None:
            first.user = user
        kept = envelope_of(first)
        assert kept
        assert kept.user_id == name


@pytest.mark.parametrize(
    "user",
    [Machine(), Group(pk=1), User(username="unsaved")],
    ids=lambda user: type(user).__name__.lower(),
)
def test_request_of_a_caller_who_cannot_be_found_again_is_not_stored(user: Any) -> None:
    """Only the client can finish it."""
    if isinstance(user, Group):
        user.is_authenticated = True
    first = RequestFactory().post("/kept/")
    first.user = user
    assert envelope_of(first) is None


def test_user_is_logged_in_for_sync_and_async_code() -> None:
    """Middleware and coroutines look at different places."""
    user = User(pk=7, username="ada")
    second = made_again(RequestFactory().post("/kept/"), user)
    assert second.user is user
    assert async_to_sync(second.auser)() is user


def test_language_is_that_of_the_first_reply(key: str, settings: Settings) -> None:
    """Chosen by a cookie, which is not stored."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("fr", "Français")]
    seen = []

    @plays
    def act(op: Any) -> Any:
        seen.append(op.request.LANGUAGE_CODE)
        if len(seen) == 1:
            raise DownError

    client = Client(raise_request_exception=False)
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "de"
    headers = {"Idempotency-Key": key, "Accept-Language": "fr"}
    assert client.post("/kept/", headers=headers).status_code == 500
    assert completed() == ["completed"]
    assert seen == ["de", "de"]


def test_finished_operation_leaves_no_request(key: str, post: Post) -> None:
    """It was stored before the view ran."""
    seen = []
    plays(lambda op: seen.append(opened(envelope()).body))
    assert post("/kept/", key).status_code == 201
    assert seen == [b'{"cake": "lemon"}']
    assert not IdempotencyEnvelope.objects.exists()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
@pytest.mark.parametrize("door", ["/kept/", "/kept/whole/"])
def test_answer_below_500_leaves_no_request(status: int, door: str, key: str, post: Post) -> None:
    """An outcome, or none that a completer could mend."""
    plays(lambda op: HttpResponse(status=status))
    assert post(door, key).status_code == status
    assert not IdempotencyEnvelope.objects.exists()


@pytest.mark.parametrize("door", ["/kept/", "/kept/whole/"])
def test_unfinished_operation_keeps_its_first_request(
    door: str, key: str, post: Post, fails: list[Any]
) -> None:
    """One, however often the client comes back."""
    sent = {"Accept": "text/first"}
    post(door, key, **sent)
    first = envelope()
    post(door, key, Accept="text/second")
    second = envelope()
    assert (second.created_at, bytes(second.request)) == (first.created_at, bytes(first.request))


COMPLETIONS = ["complete", "delete_envelope"]


@pytest.mark.parametrize("door", ["/kept/", "/kept/whole/"])
@pytest.mark.parametrize("failing", COMPLETIONS)
def test_request_is_deleted_in_the_transaction_of_the_completion(
    failing: str, door: str, key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both or neither, whichever of the two fails."""
    plays(lambda op: op.step("ride", bake))
    original = getattr(Store, failing)

    def fail(self: Store, *args: Any, commit: bool = False, **kwargs: Any) -> Any:
        original(self, *args, **kwargs)
        raise OperationalError("the network is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Store, failing, fail)
        assert post(door, key).status_code >= 500
    assert record().status != Status.COMPLETED
    assert envelope().due_at
    monkeypatch.undo()
    assert outcome(post(door, key))
    assert not IdempotencyEnvelope.objects.exists()
    assert Order.objects.count() == 1


@pytest.mark.parametrize("door", ["/kept/", "/kept/whole/"])
def test_request_of_an_owner_that_was_taken_over_is_not_deleted(
    door: str, key: str, post: Post
) -> None:
    """Its completion matches no row, and the new owner may need the request."""

    @plays
    def act(op: Any) -> None:
        IdempotencyRecord.objects.update(token=op.record_id)

    assert post(door, key).status_code == 409
    assert envelope().due_at


@pytest.mark.parametrize("door", ["/kept/", "/kept/whole/"])
def test_request_that_cannot_be_stored_is_not_run(
    door: str, key: str, post: Post, fails: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail closed: 503, nothing ran, and the key is free."""
    with monkeypatch.context() as patch:
        patch.setattr(envelopes, "encode", mock.Mock(side_effect=OperationalError))
        reply = post(door, key)
    assert (reply.status_code, reply["Retry-After"]) == (503, "1")
    assert fails == []
    assert record().status == Status.RELEASED
    plays(lambda op: None)
    assert post(door, key).status_code == 201


@pytest.mark.parametrize("error", [RuntimeError, ConnectionError, DatabaseError])
@pytest.mark.parametrize("door", ["/kept/", "/kept/whole/"])
def test_request_that_cannot_be_encoded_does_not_keep_the_key(
    door: str, error: type[Exception], key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project's codec may fail to get its key: nothing ran, and the idempotency key is free."""
    plays(lambda op: op.step("ride", bake))
    with monkeypatch.context() as patch:
        patch.setattr(envelopes, "encode", mock.Mock(side_effect=error))
        assert post(door, key).status_code in (500, 503)
    assert record().status == Status.RELEASED
    assert outcome(post(door, key))
    assert Order.objects.count() == 1


def test_stored_requests_do_not_wait_for_each_other(key: str, post: Post) -> None:
    """The tables hold nothing between two requests."""
    assert not connection.in_atomic_block
    plays(lambda op: None)
    for number in range(3):
        assert post("/kept/", f"{key}{number}").status_code == 201
    assert IdempotencyRecord.objects.count() == 3


def test_multipart_content_type_is_kept() -> None:
    """With the boundary."""
    first = RequestFactory().post("/kept/", {"a": "b"}, content_type=MULTIPART_CONTENT)
    assert made_again(first).content_type == "multipart/form-data"
    assert made_again(first).content_params == first.content_params
