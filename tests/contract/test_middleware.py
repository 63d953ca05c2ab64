"""A whole project is covered by the middleware, and no view is changed."""

import uuid
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.views import View
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from django_idempotency.middleware import IdempotencyMiddleware
from django_idempotency.models import IdempotencyRecord
from django_idempotency.storage.records import Store
from tests.app import aviews, effects, views
from tests.app import ninja as ninja_app
from tests.app.models import Order
from tests.conftest import Post, atomic_requests_on

pytest.importorskip("tests.app.api")
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.decorators import api_view
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView

from tests.app.api import Api

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


def function(request: Any) -> Any:
    """A function view without a door."""
    return views.kitchen(request)


def named(request: Any, **kwargs: str) -> Any:
    """A view whose arguments have the names of a door's."""
    return views.kitchen(request)


class PropertyHandler(View):
    """A view whose handler cannot be replaced on an instance."""

    @property
    def post(self) -> Any:
        return views.kitchen


async def coroutine(request: Any) -> Any:
    """A coroutine without a door."""
    return await aviews.akitchen(request)


@api_view(["GET", "POST"])
def api_function(request: Any) -> Any:
    """REST framework's function view."""
    return views.kitchen(request)


class TokenApi(Api):
    """It authenticates by token, inside of its dispatch."""

    authentication_classes = (TokenAuthentication,)
    permission_classes = (IsAuthenticated,)


class Unedited(views.Plain):
    """Django's class-based view."""


def hiding(view: Any) -> Any:
    """A decorator without functools.wraps()."""

    def hidden(request: Any) -> Any:
        return view(request)

    return hidden


@idempotent(required=True)
def own(request: Any) -> Any:
    """A door of its own."""
    return views.kitchen(request)


class Api2(Api):
    """A class of this module's own, which no other test covers."""


UNEDITED: dict[str, Any] = {
    "function": function,
    "class": Unedited.as_view(),
    "api-function": api_function,
    "api-class": Api2.as_view(),
}
urlpatterns = [
    *(path(f"{name}/", view) for name, view in UNEDITED.items()),
    path("coroutine/", coroutine),
    path("token/", TokenApi.as_view()),
    path("hidden/", hiding(TokenApi.as_view())),
    path("own/", own),
    path("named/<view>/<door>/<options>/", named),
    path("property/", PropertyHandler.as_view()),
    path("ninja/", ninja_app.api.urls),
]


@pytest.fixture(autouse=True)
def everywhere(settings: Settings) -> None:
    """The middleware, behind all others."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]


@pytest.mark.parametrize("name", UNEDITED)
@pytest.mark.parametrize("act", ["order", "page", "file", "redirect"])
def test_repeated_request_gets_the_first_reply(
    act: str, name: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """There is one effect, and both replies have the same bytes."""
    first, second = (post(f"/{name}/", key, act=act) for _ in range(2))
    assert Order.objects.count() == effects.count() == 1
    assert b"".join(first) == b"".join(second)
    assert second["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("name", UNEDITED)
def test_error_undoes_the_writes(name: str, key: str, post: Post, atomic_requests: bool) -> None:
    """The view runs in a transaction, and its key is free afterwards."""
    for runs in (1, 2):
        assert post(f"/{name}/", key, act="crash").status_code == 500
        assert (Order.objects.count(), effects.count()) == (0, runs)


@pytest.mark.parametrize("base", [View, APIView])
def test_claim_of_an_unedited_class_commits_by_itself(
    base: Any, key: str, post: Post, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is true of the first request that a process serves."""
    joined: list[bool] = []
    insert = Store.insert

    def watched(self: Store, *args: Any) -> Any:
        joined.append(self.joined)
        return insert(self, *args)

    monkeypatch.setattr(Store, "insert", watched)
    urls: Any = ModuleType("fresh_urls")
    fresh = type("Fresh", (base,), {"post": lambda self, request: views.kitchen(request)})
    urls.urlpatterns = [path("fresh/", fresh.as_view())]
    settings.ROOT_URLCONF = urls
    with atomic_requests_on("default"):
        assert post("/fresh/", key).status_code == 201
    assert set(joined) == {False}


@pytest.mark.parametrize("name", UNEDITED)
def test_uncovered_method_is_left_to_django(name: str, client: Client) -> None:
    """It has its transaction where ATOMIC_REQUESTS promises one."""
    client.raise_request_exception = False
    with atomic_requests_on("default"):
        assert client.get(f"/{name}/?act=crash").status_code == 500
    assert not Order.objects.exists()


def test_coroutine_is_covered_on_either_server(key: str, client: Client) -> None:
    """A reply made under WSGI is replayed under ASGI."""
    headers = {"Idempotency-Key": key}
    first = client.post("/coroutine/", headers=headers)
    again = async_to_sync(AsyncClient().post)("/coroutine/", headers=headers)
    assert effects.count() == 1
    assert first.content == again.content


def test_exempt_path_is_left_alone(key: str, post: Post, settings: Settings) -> None:
    """A regular expression exempts it."""
    settings.IDEMPOTENCY_EXEMPT_URLS = [r"^function/"]
    for _ in range(2):
        post("/function/", key)
    assert effects.count() == 2
    assert not IdempotencyRecord.objects.exists()


def test_only_listed_paths_are_covered(key: str, post: Post, settings: Settings) -> None:
    """``IDEMPOTENCY_URLS`` lists them."""
    settings.IDEMPOTENCY_URLS = [r"^class/"]
    for name in ("function", "function", "class", "class"):
        post(f"/{name}/", key if name == "class" else uuid.uuid4().hex)
    assert effects.count() == 3


def test_door_of_a_view_s_own_wins(post: Post) -> None:
    """The view's own options stay."""
    assert post("/own/").status_code == 400


def test_token_s_owner_alone_gets_the_reply(
    key: str, client: Client, django_user_model: Any
) -> None:
    """REST framework authenticates before the claim, and before a replay."""
    users = [django_user_model.objects.create(username=name) for name in ("alice", "bob")]
    tokens = [Token.objects.create(user=user).key for user in users]

    def order(token: str) -> HttpResponse:
        headers = {"Authorization": f"Token {token}", "Idempotency-Key": key}
        reply: Any = client.post("/token/", headers=headers)
        return reply  # type: ignore[no-any-return]

    assert order(tokens[0]).content == order(tokens[0]).content != order(tokens[1]).content
    assert effects.count() == 2
    Token.objects.all().delete()
    assert order(tokens[0]).status_code == 401


@pytest.mark.parametrize("url", ["/hidden/", "/ninja/token/"])
def test_view_that_authenticates_out_of_sight_is_refused(
    url: str, key: str, post: Post, django_user_model: Any
) -> None:
    """A revoked token would still get replies: the response is 500 and nothing stays."""
    token = Token.objects.create(user=django_user_model.objects.create(username="alice")).key
    for _ in range(2):
        assert post(url, key, Authorization=f"Token {token}").status_code == 500
    assert not Order.objects.exists()


def test_middleware_must_be_the_last(settings: Settings) -> None:
    """CSRF protection after it would not see the function views."""
    settings.MIDDLEWARE = [MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]
    with pytest.raises(ImproperlyConfigured, match="last"):
        IdempotencyMiddleware(lambda request: HttpResponse())


def test_csrf_protection_still_sees_the_request(key: str) -> None:
    """CSRF protection runs before the middleware."""
    client = Client(enforce_csrf_checks=True)
    assert client.post("/function/", headers={"Idempotency-Key": key}).status_code == 403
    assert effects.count() == 0


def test_view_may_name_its_arguments_as_it_likes(key: str, post: Post) -> None:
    """A door hands them on and takes none for its own."""
    for _ in range(2):
        assert post("/named/a/b/c/", key).status_code == 201
    assert effects.count() == 1


def test_handler_that_cannot_be_covered_is_named_in_the_error(key: str) -> None:
    """The view does not run."""
    with pytest.raises(ImproperlyConfigured, match=r"PropertyHandler\.post cannot be covered"):
        Client().post("/property/", headers={"Idempotency-Key": key})
    assert effects.count() == 0
