"""A request's key and scope, or an error before any query."""

import itertools
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from django_idempotency.exceptions import KeyInvalidError
from django_idempotency.http.keys import Key, parse_header, read_key, record_id, scope_of
from django_idempotency.policy import Policy
from tests.app import effects
from tests.app.urls import served
from tests.conftest import Post

LONG = "k" * 32


@pytest.mark.parametrize(
    ("header", "key"),
    {
        "bare": ("abc", "abc"),
        "quoted": ('"abc"', "abc"),
        "padded": (" abc\t", "abc"),
        "escaped": (r'"a\"b\\c"', 'a"b\\c'),
        "quoted-comma": ('"a,b;c"', "a,b;c"),
        "longest": ("k" * 255, "k" * 255),
        "uuid": ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
    }.values(),
)
def test_good_header_gives_its_key(header: str, key: str) -> None:
    """A quoted string is the same key as the bare one."""
    assert parse_header(header) == key


BAD = {
    "empty": "",
    "empty-quoted": '""',
    "too-long": "k" * 256,
    "list": "a,b",
    "quoted-list": '"a","b"',
    "parameters": "abc;p=1",
    "quoted-parameters": '"abc";p=1',
    "open-quote": '"abc',
    "inner-quote": 'a"b',
    "space": "a b",
    "quoted-space": '"a b"',
    "control": "a\x01b",
    "bad-escape": r'"a\b"',
    "non-ascii": "schlüssel",
}


@pytest.mark.parametrize("header", BAD.values(), ids=BAD)
def test_bad_header_is_refused(header: str) -> None:
    """What two servers could read differently is not a key."""
    with pytest.raises(KeyInvalidError):
        parse_header(header)


@pytest.mark.parametrize("header", BAD.values(), ids=BAD)
@pytest.mark.parametrize("door", served("/function/", "/mixin/"))
def test_bad_header_is_a_400_without_a_query(header: str, door: str, post: Post) -> None:
    """This test may not use a database, and the view does not run."""
    response = post(door, header)
    assert effects.count() == 0
    assert response.status_code == 400
    assert b"idempotency" in response.content


def test_key_comes_from_a_callable() -> None:
    """A callable replaces header and field."""
    request = RequestFactory().post("/", headers={"Idempotency-Key": "abc", "X-Event": "evt-1"})
    policy = Policy(get_key=lambda request: request.headers.get("X-Event"))
    assert read_key(request, policy) == Key("evt-1")


@pytest.mark.parametrize(("data", "key"), [({"k": "abc"}, Key("abc", from_field=True)), ({}, None)])
def test_key_comes_from_a_form_field(data: dict[str, str], key: Key | None) -> None:
    """If there is no header."""
    assert read_key(RequestFactory().post("/", data), Policy(field="k")) == key


def test_header_wins_over_the_field() -> None:
    """A request has one key."""
    request = RequestFactory().post("/", {"k": "field"}, headers={"Idempotency-Key": "header"})
    assert read_key(request, Policy(field="k")) == Key(
        "header", headers=(("Idempotency-Key", "header"),)
    )


def test_scope_tells_callers_apart() -> None:
    """A user, a credential, and an anonymous caller have different scopes."""
    request = RequestFactory().post("/", headers={"Authorization": "Bearer alice"})
    assert scope_of(request, Policy(), "k").startswith("credential:")
    request.user = User(pk=7)
    assert scope_of(request, Policy(), "k") == "user:7"
    request = RequestFactory().post("/")
    request.user = AnonymousUser()
    assert scope_of(request, Policy(), LONG) == "anonymous"


def test_users_without_a_primary_key_do_not_share_a_scope() -> None:
    """Users made from tokens are told apart by their tokens."""
    scopes = set()
    for token in ("alice", "bob"):
        request = RequestFactory().post("/", headers={"Authorization": f"Bearer {token}"})
        request.user = User()
        scopes.add(scope_of(request, Policy(), "k"))
    assert len(scopes) == 2


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"X-Api-Key": " "}])
def test_short_key_of_an_anonymous_caller_is_refused(headers: dict[str, str]) -> None:
    """An anonymous caller's key is its secret; an empty credential proves nothing."""
    with pytest.raises(KeyInvalidError):
        scope_of(RequestFactory().post("/", headers=headers), Policy(), "k" * 15)


@pytest.mark.parametrize("scope", ["", None, 7])
def test_scope_callable_must_return_text(scope: object) -> None:
    """A scope of None would be shared by all callers."""
    policy = Policy(scope=lambda request: scope)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError):
        scope_of(RequestFactory().post("/"), policy, "k")


class Guest:
    """A principal that is no model, with a primary key of its own choice."""

    is_authenticated = True

    def __init__(self, pk: object) -> None:
        self.pk = pk


class Elsewhere:
    """Another module's class of the same name."""

    class Guest(Guest):
        """Its qualified name differs."""


class Partner(models.Model):
    """A model of another kind, whose primary keys begin at 1, too."""

    is_authenticated = True

    class Meta:
        app_label = "tests_of_keys"
        managed = False


PRINCIPALS: dict[str, object] = {
    "user": User(pk=7),
    "other-user": User(pk=8),
    "partner": Partner(pk=7),
    "guest": Guest(7),
    "guest-like-a-partner": Guest("tests_of_keys.Partner:7"),
    "guest-of-another-class": Elsewhere.Guest(7),
    "user-named-like-a-guest": User(pk=f"{__name__}.Guest:7"),
    "user-named-like-a-principal": User(pk=f"principal:{__name__}.Guest:7"),
    "long": Guest("g" * 300),
    "longer": Guest("g" * 301),
    "digest-of-the-long": Guest("x"),
    "nul": Guest("a\0b"),
    "surrogate": Guest("a\ud800b"),
    "zero": User(pk=0),
}


def scope_of_user(user: object) -> str:
    """The scope of a principal who sends a credential as well."""
    request = RequestFactory().post("/", headers={"Authorization": "Bearer token"})
    request.user = user  # type: ignore[assignment]
    return scope_of(request, Policy(), "k")


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(PRINCIPALS, 2)))
def test_principals_that_differ_never_share_a_scope(one: str, other: str) -> None:
    """Whatever their classes and primary keys are."""
    assert scope_of_user(PRINCIPALS[one]) != scope_of_user(PRINCIPALS[other])


@pytest.mark.parametrize("name", PRINCIPALS)
def test_scope_of_a_principal_can_be_stored(name: str) -> None:
    """However long its primary key is; a lazy object has the scope of what it stands for."""
    scope = scope_of_user(PRINCIPALS[name])
    assert 0 < len(scope) <= 255
    assert "\0" not in scope
    assert scope.encode().decode() == scope
    assert scope_of_user(SimpleLazyObject(lambda: PRINCIPALS[name])) == scope


@pytest.mark.parametrize("pk", [None, ""])
def test_empty_primary_key_is_no_identity(pk: object) -> None:
    """The credential tells such callers apart."""
    assert scope_of_user(Guest(pk)).startswith("credential:")
    assert scope_of_user(object()).startswith("credential:")


def test_principal_that_ninja_has_found_is_the_caller() -> None:
    """So a refreshed token is the same caller; a text or a dict names nobody."""
    scopes = []
    for token, auth in (("old", User(pk=7)), ("new", User(pk=7)), ("new", "alice"), ("new", {})):
        request: Any = RequestFactory().post("/", headers={"Authorization": f"Bearer {token}"})
        request.user, request.auth = AnonymousUser(), auth
        scopes.append(scope_of(request, Policy(), "k"))
    assert scopes[:2] == ["user:7"] * 2
    assert scopes[2] == scopes[3]
    assert scopes[2].startswith("credential:")


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key", "api-key", "X-Auth-Token"])
def test_usual_credentials_tell_callers_apart(header: str) -> None:
    """Without a setting."""
    requests = [RequestFactory().post("/", headers={header: who}) for who in ("alice", "bob")]
    scopes = {scope_of(request, Policy(), "k") for request in requests}
    assert len(scopes) == 2


def test_long_scope_is_stored_as_its_digest() -> None:
    """And no scope spells the digest of another."""
    request, long = RequestFactory().post("/"), "s" * 256
    scope = scope_of(request, Policy(scope=lambda request: long), "k")
    assert len(scope) <= 255
    assert scope_of(request, Policy(scope=lambda request: scope), "k") != scope


def test_record_id_is_a_version_5_uuid_of_scope_and_key() -> None:
    """The same text split differently gives another id."""
    assert record_id("user:1", "2k") != record_id("user:12", "k")
    assert record_id("user:1", "k") == record_id("user:1", "k")
    assert (record_id("a", "b").version, record_id("a", "b").variant) == (5, uuid.RFC_4122)
