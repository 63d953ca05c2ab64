"""A replay goes out through the same middleware as the first reply."""

import gzip
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from django.utils import translation
from django.utils.translation import gettext
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from tests.app import effects, views
from tests.conftest import Post

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


@idempotent
def polite(request: Any) -> HttpResponse:
    """An order that is confirmed in the client's language."""
    views.kitchen(request)
    return HttpResponse(gettext("Yes") * 200)


@idempotent
def spoken(request: Any) -> HttpResponse:
    """A view that sets Content-Language itself."""
    return HttpResponse("oui", headers={"Content-Language": "fr"})


urlpatterns = [path("polite/", polite), path("spoken/", spoken)]


@pytest.fixture
def replies(key: str, settings: Settings) -> Any:
    """The first reply and its replay, requested in two languages, behind more middleware."""

    def send(*middleware: str, url: str = "/polite/", **headers: str) -> tuple[Any, Any]:
        settings.MIDDLEWARE = [
            *(f"django.middleware.{m}" for m in middleware),
            *settings.MIDDLEWARE,
        ]
        sent = [
            Client().post(
                url, headers={"Idempotency-Key": key, "Accept-Language": language, **headers}
            )
            for language in ("de", "fr")
        ]
        assert sent[1]["Idempotent-Replayed"] == "true"
        return sent[0], sent[1]

    return send


def test_replay_names_the_language_it_is_in(replies: Any) -> None:
    """LocaleMiddleware would name the language of the second request."""
    first, again = replies("locale.LocaleMiddleware")
    with translation.override("de"):
        assert first.content.decode().startswith(gettext("Yes"))
    assert effects.count() == 1
    assert first.content == again.content
    assert first["Content-Language"] == again["Content-Language"] == "de"
    assert first["Vary"] == again["Vary"]


def test_language_a_view_names_is_left_as_it_is(replies: Any) -> None:
    """The view's own header stays."""
    first, again = replies("locale.LocaleMiddleware", url="/spoken/")
    assert first["Content-Language"] == again["Content-Language"] == "fr"


def test_replay_without_locale_middleware_names_no_language(replies: Any) -> None:
    """Nothing is added to the project's response."""
    for reply in replies():
        assert "Content-Language" not in reply


def test_replay_is_compressed_for_clients_that_accept_it(replies: Any) -> None:
    """The record holds the plain bytes."""
    first, again = replies("gzip.GZipMiddleware", **{"Accept-Encoding": "gzip"})
    assert first["Content-Encoding"] == again["Content-Encoding"] == "gzip"
    assert gzip.decompress(first.content) == gzip.decompress(again.content)


def test_replay_passes_conditional_and_security_middleware(replies: Any) -> None:
    """Their headers are those of the first reply."""
    first, again = replies("http.ConditionalGetMiddleware", "security.SecurityMiddleware")
    for name in ("Content-Length", "X-Content-Type-Options", "Referrer-Policy"):
        assert first[name] == again[name]


def test_key_may_come_in_an_old_or_a_new_header(key: str, settings: Settings) -> None:
    """Either header names the same key, and the one that was sent is echoed."""
    settings.IDEMPOTENCY_HEADER = ["Idempotency-Key", "X-Request-Key"]
    first = Client().post("/polite/", headers={"X-Request-Key": key})
    again = Client().post("/polite/", headers={"Idempotency-Key": key})
    both = Client().post("/polite/", headers={"Idempotency-Key": key, "X-Request-Key": f'"{key}"'})
    assert effects.count() == 1
    assert first.content == again.content == both.content
    assert (first["X-Request-Key"], again["Idempotency-Key"]) == (key, key)
    assert "Idempotency-Key" not in first
    headers = {"Idempotency-Key": key, "X-Request-Key": "another"}
    assert Client().post("/polite/", headers=headers).status_code == 400


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_keys_can_be_switched_off(on: bool, key: str, post: Post, settings: Settings) -> None:
    """The view runs as it does without a key."""
    settings.IDEMPOTENCY_ENABLED = on
    for _ in range(2):
        post("/polite/", key)
    assert effects.count() == (1 if on else 2)
