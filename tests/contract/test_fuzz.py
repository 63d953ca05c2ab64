"""Hostile keys and bodies cause neither a 5xx nor, where the key is invalid, a query.

Each test tries ``IDEMPOTENCY_TEST_FUZZ`` examples; `make fuzz` tries 10,000 in all.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import KeyInvalidError
from django_idempotency.http.keys import parse_header

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

EXAMPLES = int(os.environ.get("IDEMPOTENCY_TEST_FUZZ", "100"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
STATUSES: Counter[int] = Counter()

# What a server passes on: Latin-1 without line ends. Much of it is almost a key.
LINES = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=300),
    st.text('"\\,; \tabc', max_size=12),
    st.from_regex(r'\A"?[!-~]{0,260}"?(;[a-z]=1)?(, ?"?[!-~]*"?)?\Z'),
)
TYPES = st.sampled_from(
    (
        *("application/json", "application/json; charset=nope", "application/vnd.x+json"),
        *("application/x-www-form-urlencoded", "multipart/form-data"),
        *("multipart/form-data; boundary=x", "multipart/form-data; boundary=\x7f", "text/plain"),
        *("application/octet-stream", "", "x", "/", ";;;", "application/json; charset=utf-16"),
    )
)
SNIPPETS = (
    *(b'{"a": 1, "a": 2}', b'{"a": NaN}', b'"\\ud800"', b"[" * 3000, b"1e400", b"\xff\xfe{}"),
    *(b"a=1&a=2&%00=%ff", b"--x\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--"),
    *(
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="\0"\r\n\r\n1\r\n--x--',
        b"1" * 5000,
    ),
    b'--x\r\nContent-Disposition: form-data; name="f"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n!\r\n",
)
BODIES = st.one_of(st.binary(max_size=200), st.sampled_from(SNIPPETS))


@idempotent
def plain(request: Any) -> HttpResponse:
    """A view that reads nothing of the request."""
    return HttpResponse()


urlpatterns = [path("plain/", plain)]
DOORS = ["/plain/"]

try:
    from rest_framework.response import Response
    from rest_framework.views import APIView

    from django_idempotency.rest_framework import IdempotencyMixin
except ImportError:  # the ring without REST framework
    pass
else:

    class Api(IdempotencyMixin, APIView):
        """A REST framework view that reads nothing of the request."""

        def post(self, request: Any) -> Response:
            return Response()

    urlpatterns.append(path("api/", Api.as_view()))
    DOORS.append("/api/")


@pytest.fixture(scope="module", autouse=True)
def summary() -> Iterator[None]:
    """Print how many examples were tried, and their statuses."""
    yield
    print(f"\nfuzz: {STATUSES.total()} requests, by status: {dict(sorted(STATUSES.items()))}")


def send(url: str, line: str, body: bytes = b"", content_type: str = "text/plain") -> int:
    """Send one request, and return its status."""
    client = Client(raise_request_exception=False)
    reply = client.generic("POST", url, body, content_type, HTTP_IDEMPOTENCY_KEY=line)
    STATUSES[reply.status_code] += 1
    return reply.status_code


def is_key(line: str) -> bool:
    """Whether the parser accepts the header."""
    try:
        return bool(parse_header(line))
    except KeyInvalidError:
        return False


@pytest.mark.parametrize("url", DOORS)
def test_hostile_key_is_refused_without_a_query(url: str) -> None:
    """A valid key is accepted, if it is long enough to be a secret."""

    @fuzzed
    @given(LINES)
    def hostile(line: str) -> None:
        with CaptureQueriesContext(connection) as queries:
            status = send(url, line)
        if is_key(line):
            assert status == 200 or (status == 400 and len(parse_header(line)) < 16)
        else:
            assert (status, len(queries)) == (400, 0)

    hostile()


@pytest.mark.parametrize("url", DOORS)
def test_hostile_body_is_never_a_server_error(url: str) -> None:
    """For any content type; the same body again gets the same answer."""

    @fuzzed
    @given(st.uuids(), BODIES, TYPES, st.sampled_from(("", "?%00", "?a=%ff&a", "?" + "a&" * 900)))
    def hostile(key: Any, body: bytes, content_type: str, query: str) -> None:
        statuses = [send(url + query, str(key), body, content_type) for _ in range(2)]
        assert statuses[0] == statuses[1]
        assert statuses[0] < 500

    hostile()


@fuzzed
@given(st.from_regex(r"\A[!-~]{1,255}\Z"))
def test_bare_and_quoted_are_the_same_key(text: str) -> None:
    """RFC 9651, for every key that can be written bare."""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert parse_header(quoted) == text
    if not set(text) & set('",;'):
        assert parse_header(text) == text
