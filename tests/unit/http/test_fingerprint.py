"""Equal requests have equal fingerprints; different requests have different ones."""

import gzip
import json
import os
from io import BytesIO
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory
from django.test.client import encode_multipart
from pytest_django import Settings

from django_idempotency.http.fingerprint import fingerprint_of
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policy import Policy
from tests.app import effects
from tests.conftest import Post


def of(body: Any = b"", content_type: str = "application/json", path: str = "/o/") -> bytes:
    """The fingerprint of a POST."""
    request = RequestFactory().post(path, body, content_type=content_type)
    return fingerprint_of(request, Policy())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1,"b":2}', b'{ "b": 2, "a": 1 }'),
        (b'"\xc3\xbc"', rb'"\u00fc"'),
    ],
    ids=["order", "escapes"],
)
def test_same_json_written_differently_is_equal(one: bytes, other: bytes) -> None:
    """JSON is compared by its meaning."""
    assert of(one) == of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"1", b'"1"'),
        (b"1", b"true"),
        (b"1", b"1.0"),
        (b"[1,2]", b"[2,1]"),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b"[1e400]", b"[1e500]"),
        (b"[9007199254740992.0]", b"[9007199254740993.0]"),
        (b"[NaN]", b"[ NaN]"),
        (b"{", b"{ "),
        (b"[" * 100_000, b"[" * 100_001),
    ],
    ids=[
        "text",
        "bool",
        "float",
        "list",
        "duplicate",
        "infinite",
        "precise",
        "nan",
        "broken",
        "deep",
    ],
)
def test_other_json_is_not_equal(one: bytes, other: bytes) -> None:
    """Different values differ; JSON that parsers disagree on is compared by its bytes."""
    assert of(one) != of(other)


def test_path_and_query_count_and_the_order_of_the_query_does_not() -> None:
    """``?a=1&b=2`` equals ``?b=2&a=1``."""
    assert of(path="/o/?a=1&b=2") == of(path="/o/?b=2&a=1")
    assert len({of(path="/o/"), of(path="/p/"), of(path="/o/?a=1"), of(path="/o/?a=")}) == 4


def _multipart(boundary: str, content: bytes = b"cake", **fields: str) -> bytes:
    data = {"name": "x", "file": SimpleUploadedFile("a.txt", content), **fields}
    return of(encode_multipart(boundary, data), f"multipart/form-data; boundary={boundary}")


def test_multipart_is_compared_by_its_fields_and_files() -> None:
    """A new boundary makes no difference, another file does."""
    assert _multipart("one") == _multipart("two")
    assert _multipart("one") != _multipart("one", content=b"pie")
    assert _multipart("one", csrfmiddlewaretoken="1") == _multipart("one", csrfmiddlewaretoken="2")


def test_uploaded_file_can_still_be_read() -> None:
    """The view reads the file from its beginning."""
    request = RequestFactory().post("/", {"file": SimpleUploadedFile("a.txt", b"cake")})
    fingerprint_of(request, Policy())
    (file,) = request.FILES.getlist("file")
    assert file.read() == b"cake"


@pytest.mark.parametrize("leave_out", ["csrfmiddlewaretoken", "key"])
def test_token_and_key_of_a_form_are_left_out(leave_out: str) -> None:
    """They differ on each page that is rendered."""
    digests = {
        fingerprint_of(
            RequestFactory().post("/", {"a": "1", leave_out: value}), Policy(field="key")
        )
        for value in "xy"
    }
    assert len(digests) == 1


def test_large_body_is_hashed_and_put_back(settings: Settings) -> None:
    """A body beyond DATA_UPLOAD_MAX_MEMORY_SIZE can still be streamed by the view."""
    body = os.urandom(300_000)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    request = RequestFactory().post("/", body, content_type="application/octet-stream")
    digest = fingerprint_of(request, Policy())
    assert request.read() == body
    again = RequestFactory().post("/", body, content_type="application/octet-stream")
    assert fingerprint_of(again, Policy()) == digest
    other = RequestFactory().post("/", body + b"x", content_type="application/octet-stream")
    assert fingerprint_of(other, Policy()) != digest


def test_ten_megabytes_of_json_are_compared_by_their_meaning(settings: Settings) -> None:
    """If the project accepts bodies of that size."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 20_000_000
    cakes = [{"name": "x" * 1000, "price": number} for number in range(10_000)]
    turned = [dict(reversed(cake.items())) for cake in cakes]
    one, other = json.dumps(cakes).encode(), json.dumps(turned, indent=1).encode()
    assert len(one) > 10_000_000
    assert of(one) == of(other)
    assert of(one) != of(one.replace(b'"price": 9999', b'"price": 9998'))


def test_compressed_body_is_compared_by_its_bytes() -> None:
    """Nothing is unpacked, so the output of another compressor is another request."""
    body = b'{"cake": "lemon"}' * 100
    packed = gzip.compress(body, mtime=0)
    assert of(packed) == of(packed)
    assert of(packed) != of(gzip.compress(body, compresslevel=1, mtime=1))


def test_callable_replaces_the_whole_fingerprint() -> None:
    """Only the callable's bytes are compared."""
    policy = Policy(fingerprint=lambda request: b"same")
    factory = RequestFactory()
    assert fingerprint_of(factory.post("/a/"), policy) == fingerprint_of(
        factory.post("/b/"), policy
    )


@pytest.mark.drf
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_unparsable_body_fails_before_the_claim(key: str, post: Post) -> None:
    """REST framework's parsers answer 400, and nothing is recorded."""
    headers = {"Idempotency-Key": key}
    response = Client().post("/mixin/", "{", content_type="application/json", headers=headers)
    assert effects.count() == 0
    assert response.status_code == 400
    assert not IdempotencyRecord.objects.exists()


def sent(policy: Policy | None = None, **headers: str) -> bytes:
    """The fingerprint of a POST with these headers."""
    request = RequestFactory().post("/o/", b"{}", content_type="application/json", headers=headers)
    return fingerprint_of(request, policy or Policy())


def test_host_is_a_part_of_the_target() -> None:
    """Another site's request is another one; the scheme's own port says nothing."""
    assert sent(Host="a.example") != sent(Host="b.example")
    assert sent(Host="a.example") == sent(Host="A.EXAMPLE:80")
    assert sent(Host="a.example") != sent(Host="a.example:8080")
    one_site = Policy(fingerprint_host=False)
    assert sent(one_site, Host="a.example") == sent(one_site, Host="b.example")


def test_host_that_is_not_allowed_is_compared_as_it_was_sent(settings: Settings) -> None:
    """A project without CommonMiddleware answers it."""
    settings.ALLOWED_HOSTS = ["a.example"]
    assert sent(Host="b.example") != sent(Host="c.example")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("application/json-patch+json", "application/merge-patch+json"),
        ("application/json", "text/plain"),
        ("application/vnd.cake+json; version=1", "application/vnd.cake+json; version=2"),
        ("text/plain; charset=latin-1", "text/plain"),
    ],
)
def test_media_type_counts(one: str, other: str) -> None:
    """The same bytes mean something else."""
    assert of(b"[]", one) != of(b"[]", other)


def test_usual_charset_may_be_left_out() -> None:
    """And names of media types have no case."""
    assert of(b"[]", "Application/JSON; charset=UTF-8") == of(b"[]", "application/json")


@pytest.mark.parametrize("header", ["Content-Encoding", "Content-Range", "Content-Disposition"])
def test_headers_of_the_body_count(header: str) -> None:
    """They say what the bytes are."""
    assert sent(None, **{header: "one"}) != sent(None, **{header: "two"}) != sent()


def test_further_headers_count_where_they_are_named() -> None:
    """An absent header differs from an empty one."""
    policy = Policy(fingerprint_headers=["X-Account"])
    assert len({sent(policy, **{"X-Account": value}) for value in ("", "1", "2")}) == 3
    assert sent(policy) not in (sent(policy, **{"X-Account": ""}), None)
    assert sent(None, **{"X-Account": "1"}) == sent(None, **{"X-Account": "2"})


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-16"])
def test_text_never_looks_like_a_number(encoding: str) -> None:
    """Whatever encoding spells the mark of a number."""
    text = '["\\u0000number:1.5"]'
    assert of(text.encode(encoding)) != of("[1.5]".encode(encoding))


@pytest.mark.parametrize(
    ("one", "other"),
    [("-0", "0"), ("[-0]", "[0]"), ("-0", "-0.0"), ('"\u00e9"', '"e\u0301"')],
    ids=["zero", "listed", "float", "normal-forms"],
)
def test_json_that_differs_is_different(one: str, other: str) -> None:
    """To some parsers, at least."""
    assert of(one.encode()) != of(other.encode())


def test_bytes_of_a_query_count_which_are_no_text() -> None:
    """They all would be the replacement character."""
    assert of(path="/o/?a=%FF") != of(path="/o/?a=%FE")


def without_length(body: bytes, content_type: str) -> Any:
    """A request whose body came in chunks over ASGI."""
    request = RequestFactory().post("/o/", body, content_type=content_type)
    del request.META["CONTENT_LENGTH"]
    request._stream = BytesIO(body)
    return request


def form_with(content: bytes) -> tuple[bytes, str]:
    """A form with one file."""
    body = encode_multipart("X", {"file": SimpleUploadedFile("a.txt", content)})
    return body, "multipart/form-data; boundary=X"


BODIES = {
    "file": (form_with(b"cake"), form_with(b"pie")),
    "json": ((b'{"a": 1}', "application/json"), (b'{"a": 2}', "application/json")),
    "bytes": ((b"x" * 3_000_000, "text/plain"), (b"y" * 3_000_000, "text/plain")),
    "large-json": ((b"1" * 3_000, "application/json"), (b"2" * 3_000, "application/json")),
}


@pytest.mark.parametrize("kind", BODIES)
def test_body_without_a_length_is_compared_and_can_be_read(kind: str, settings: Settings) -> None:
    """The view finds the whole body in the stream."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500
    one, other = BODIES[kind]
    request = without_length(*one)
    fingerprint = fingerprint_of(request, Policy())
    assert request.read() == one[0]
    assert fingerprint == fingerprint_of(without_length(*one), Policy())
    assert fingerprint != fingerprint_of(without_length(*other), Policy())


def test_json_without_a_length_is_compared_by_its_meaning() -> None:
    """As any other."""
    one, other = (without_length(body, "application/json") for body in (b"[1, 2]", b"[1,2]"))
    assert fingerprint_of(one, Policy()) == fingerprint_of(other, Policy())


def in_chunks(body: bytes) -> Any:
    """A request whose body came in chunks over WSGI, from a server that ends the stream itself."""
    request = RequestFactory().post("/o/", b"", content_type="text/plain")
    request.META.pop("CONTENT_LENGTH", None)
    request.META.update({"wsgi.input": BytesIO(body), "wsgi.input_terminated": True})
    return request


def test_chunks_that_only_the_servers_stream_has_are_compared() -> None:
    """Django reads nothing without a length; a view may read what the server has."""
    request = in_chunks(b"cake")
    fingerprint = fingerprint_of(request, Policy())
    assert request.META["wsgi.input"].read() == b"cake"
    assert fingerprint != fingerprint_of(in_chunks(b"pie"), Policy())


@pytest.mark.parametrize("replaces_stream", [False, True])
def test_body_that_a_middleware_unpacked_is_not_taken_for_a_cut_one(replaces_stream: bool) -> None:
    """Although its Content-Length, of what was sent, is left."""
    packed = gzip.compress(b"{}", mtime=0)
    request = RequestFactory().post("/o/", packed, content_type="application/json")
    assert request.body == packed
    if replaces_stream:
        request._stream = BytesIO(b"{}")
    else:
        request._body = b"{}"
    assert fingerprint_of(request, Policy())


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"cake", "text/plain"),
        (b"{}", "application/json"),
        (b"cake=lemon", "application/x-www-form-urlencoded"),
        form_with(b"cake"),
    ],
    ids=["text", "json", "form", "file"],
)
def test_body_that_was_read_as_a_stream_is_named_in_the_error(
    body: bytes, content_type: str
) -> None:
    """Nothing is left to compare."""
    request = RequestFactory().post("/o/", body, content_type=content_type)
    request.read()
    with pytest.raises(ImproperlyConfigured, match="read as a stream"):
        fingerprint_of(request, Policy())
