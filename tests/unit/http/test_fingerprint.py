"""Equal requests have equal fingerprints; different requests have different ones."""

import gzip
import json
import os
from typing import Any

import pytest
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
