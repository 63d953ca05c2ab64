"""What is stored of a response, and the replay made from that."""

import pytest
from django.http import HttpResponse

from django_idempotency.http.responses import Verdict, replay, stored, verdict
from django_idempotency.policy import Policy
from django_idempotency.storage.values import StoredResponse


@pytest.mark.parametrize("name", ["Set-Cookie", "Date", "Connection", "Transfer-Encoding", "TE"])
def test_headers_of_one_caller_or_connection_are_not_stored(name: str) -> None:
    """Even if the view sets them."""
    assert name not in dict(stored(HttpResponse(headers={name: "x"}), 10).headers)


def test_cookies_are_not_stored() -> None:
    """They belong to the first caller's session."""
    response = HttpResponse()
    response.set_cookie("session", "secret")
    assert "secret" not in repr(stored(response, 10))


def test_response_without_content_type_gets_none_in_the_replay() -> None:
    """Django's default Content-Type is not added."""
    response = HttpResponse(status=204)
    del response["Content-Type"]
    assert "Content-Type" not in replay(stored(response, 10))


def test_body_of_the_limit_is_stored_and_one_byte_more_is_not() -> None:
    """The limit counts bytes, not characters."""
    assert stored(HttpResponse("ü"), 2).body == "ü".encode()
    assert stored(HttpResponse("üx"), 2).body is None
    assert replay(StoredResponse(200, [], b"")).get("Idempotent-Body") is None


def test_project_may_decide_what_is_kept() -> None:
    """``keep_response`` decides about the key of committed writes, never about the commit."""
    keep, free = Policy(keep_response=lambda r: True), Policy(keep_response=lambda r: False)
    assert verdict(HttpResponse(status=400), None, keep) is Verdict.KEEP
    assert verdict(HttpResponse(status=201), None, free) is Verdict.RELEASE
    assert verdict(HttpResponse(status=500), None, keep) is Verdict.ROLL_BACK
