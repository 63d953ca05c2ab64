"""Django Ninja's own checks run before the claim, once for each request."""

from typing import cast

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from tests.app import effects
from tests.app.ninja import Tokens

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def valid(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The tokens that are accepted."""
    tokens = {"alice", "bob"}
    monkeypatch.setattr(Tokens, "valid", tokens)
    monkeypatch.setattr(Tokens, "looks", 0)
    return tokens


def order(token: str, key: str) -> HttpResponse:
    """Send an order with this token."""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    return cast(HttpResponse, Client().post("/ninja/token/", headers=headers))


def test_revoked_token_gets_no_replay(valid: set[str], key: str) -> None:
    """Authentication runs again before a reply is replayed."""
    first, again = order("alice", key), order("alice", key)
    assert effects.count() == 1
    assert first.content == again.content
    assert again["Idempotent-Replayed"] == "true"
    valid.remove("alice")
    assert order("alice", key).status_code == 401


def test_strangers_do_not_share_replies(valid: set[str], key: str) -> None:
    """Two callers with the same key make two orders."""
    assert order("alice", key).content != order("bob", key).content
    assert effects.count() == 2


def test_checks_run_once_a_request(valid: set[str], key: str) -> None:
    """A throttle counts each request once."""
    for _ in range(2):
        order("alice", key)
    assert Tokens.looks == 2


def test_coroutine_is_covered(key: str, client: Client) -> None:
    """An async operation of Ninja's runs once for its key."""
    replies = [client.post("/ninja/async/", headers={"Idempotency-Key": key}) for _ in range(2)]
    assert effects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_refreshed_token_of_the_same_user_is_the_same_caller(key: str) -> None:
    """Ninja knows the user; another user gets no reply of hers."""
    for name in ("alice", "bob"):
        User.objects.create(username=name)
    first, again, other = (
        Client().post(
            "/ninja/member/", headers={"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        )
        for token in ("alice.1", "alice.2", "bob.1")
    )
    assert effects.count() == 2
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert other.content != first.content
