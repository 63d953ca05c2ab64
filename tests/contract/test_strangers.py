"""A saved response reaches only the caller that made it, after permissions are checked again."""

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client

from tests.app import effects
from tests.app.models import Order
from tests.app.urls import served
from tests.conftest import Post

pytestmark = [
    pytest.mark.cached,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

DOORS = served("/function/", "/mixin/", "/viewset/", "/below/", "/above/", "/class/")


def by_session(name: str) -> Client:
    """A client that has logged in."""
    client = Client()
    client.force_login(User.objects.get_or_create(username=name)[0])
    return client


def by_token(name: str) -> Client:
    """A client that sends a token of REST framework's."""
    user, _ = User.objects.get_or_create(username=name)
    token, _ = apps.get_model("authtoken.Token").objects.get_or_create(user=user)
    return Client(headers={"Authorization": f"Token {token.key}"})


@pytest.mark.parametrize("door", DOORS)
def test_session_users_do_not_share_a_key(door: str, key: str) -> None:
    """Alice, Bob and an anonymous caller each get their own reply."""
    clients = [by_session("alice"), by_session("bob"), Client()]
    replies = [client.post(door, headers={"Idempotency-Key": key}) for client in clients]
    assert Order.objects.count() == effects.count() == 3
    assert len({reply.content for reply in replies}) == 3
    again = clients[0].post(door, headers={"Idempotency-Key": key})
    assert again.content == replies[0].content


@pytest.mark.drf
def test_bearers_do_not_share_a_key(key: str) -> None:
    """A token and a session of the same user are the same caller."""
    clients = [by_token("alice"), by_token("bob")]
    replies = [client.post("/token/", headers={"Idempotency-Key": key}) for client in clients]
    assert effects.count() == 2
    assert len({reply.content for reply in replies}) == 2
    session = by_session("alice").post("/token/", headers={"Idempotency-Key": key})
    assert session.content == replies[0].content
    assert session["Idempotent-Replayed"] == "true"
    assert Client().post("/token/", headers={"Idempotency-Key": key}).status_code in (401, 403)


def test_view_that_authenticates_in_its_body_is_safe(key: str) -> None:
    """The credential is the scope if Django knows no user."""
    replies = [
        Client().post("/who/", headers={"Authorization": who, "Idempotency-Key": key})
        for who in ("Bearer alice", "Bearer bob", "Bearer alice")
    ]
    assert b"alice" in replies[0].content
    assert b"bob" in replies[1].content
    assert replies[2].content == replies[0].content
    anonymous = Client().post("/who/", headers={"Idempotency-Key": key})
    assert b"alice" not in anonymous.content


@pytest.mark.parametrize("door", DOORS)
def test_session_that_begins_in_the_view_is_no_part_of_the_scope(door: str, key: str) -> None:
    """An anonymous order whose view starts a session is one order when it is repeated."""
    client = Client()
    for _ in range(2):
        url = f"{door}?act=starts_session"
        assert client.post(url, headers={"Idempotency-Key": key}).status_code == 201
    assert Order.objects.count() == effects.count() == 1


@pytest.mark.drf
def test_permissions_run_again_before_a_replay(key: str, post: Post) -> None:
    """A user who may no longer order does not get the earlier reply either."""
    client = by_session("alice")
    assert client.post("/token/", headers={"Idempotency-Key": key}).status_code == 201
    User.objects.update(is_active=False)
    assert client.post("/token/", headers={"Idempotency-Key": key}).status_code in (401, 403)
