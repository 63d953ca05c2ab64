"""Ways to write a view that a door once missed, or covered under the wrong options."""

import gc
import uuid
import weakref
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, OperationalError, connection, transaction
from django.http import HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from django_idempotency.decorators import idempotent
from tests.app import effects
from tests.app.models import Delivery, Order
from tests.conftest import Post, atomic_requests_on

pytest.importorskip("tests.app.api")
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.rest_framework import IdempotencyMixin

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


def bake(request: Any, status: int = 201) -> HttpResponse:
    """A row, an effect outside the database, and a nonce."""
    nonce = uuid.uuid4().hex
    Order.objects.create(nonce=nonce)
    effects.happened(nonce)
    return JsonResponse({"nonce": nonce}, status=status)


class ByName(BaseAuthentication):
    """Authenticates users and machines, each by a header."""

    def authenticate(self, request: Any) -> Any:
        if name := request.headers.get("X-User"):
            return User.objects.get_or_create(username=name)[0], None
        if number := request.headers.get("X-Machine"):
            return Machine(int(number)), None
        return None


class Machine:
    """A principal that is not a user of the project."""

    is_authenticated = True

    def __init__(self, pk: int) -> None:
        self.pk = pk


class Members(APIView):
    """A view for callers who are logged in."""

    authentication_classes = (ByName,)
    permission_classes = (IsAuthenticated,)

    def post(self, request: Any) -> HttpResponse:
        response = bake(request)
        response["X-For"] = str(request.user.pk)
        return response


@method_decorator([idempotent, never_cache], name="dispatch")
class ListOfDecorators(Members):
    """The door is not the innermost decorator of dispatch."""


class Principals(IdempotencyMixin, Members):
    """Two kinds of principals."""


def homeless(request: Any) -> HttpResponse:
    """Writes on both databases; the other's COMMIT fails."""
    response = bake(request)
    Delivery.objects.using("other").create(order_id=2**31 - 1)
    return response


@idempotent
class Base(View):
    """A decorated class."""

    def post(self, request: Any) -> HttpResponse:
        return homeless(request)


class Between:
    """A mixin with a dispatch of its own, as LoginRequiredMixin is."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        parent: Any = super()
        return parent.dispatch(request, *args, **kwargs)


class Subclass(Between, Base):
    """A subclass whose dispatch is not the decorated class's."""


@method_decorator(idempotent, name="post")
class OnlyPost(View):
    """The URL's callback hides this door."""

    def post(self, request: Any) -> HttpResponse:
        return homeless(request)


@method_decorator(idempotent, name="dispatch")
class DispatchDoor(View):
    """The door is on dispatch."""

    def post(self, request: Any) -> HttpResponse:
        return bake(request)


class DispatchDoorBelow(DispatchDoor):
    """A subclass with a dispatch and a door of its own on another method."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)

    @idempotent
    def patch(self, request: Any) -> HttpResponse:
        return bake(request)


@idempotent(required=True)
def helper(request: Any) -> HttpResponse:
    """A decorated function that is no view of a URL."""
    return bake(request)


class WithHelper(APIView):
    """Only requests that reach the helper are covered."""

    def post(self, request: Any) -> HttpResponse:
        return helper(request)

    def patch(self, request: Any) -> HttpResponse:
        return bake(request)


class WithHelperMethod(View):
    """The decorated method is called by a handler."""

    def post(self, request: Any) -> HttpResponse:
        return self.create(request)

    @idempotent
    def create(self, request: Any) -> HttpResponse:
        return bake(request)


@transaction.non_atomic_requests
@idempotent
def apart(request: Any) -> HttpResponse:
    """Kept out of ATOMIC_REQUESTS by a decorator above the door."""
    return JsonResponse({"atomic": connection.in_atomic_block})


VIEWS: list[weakref.ref[Any]] = []


class Tenant(IdempotencyMixin, APIView):
    """The scope is a method."""

    def get_idempotency_scope(self, request: Any) -> str:
        return "tenant"

    def post(self, request: Any) -> Response:
        VIEWS.append(weakref.ref(self))
        return Response()


@idempotent
def hooked(request: Any) -> HttpResponse:
    """Registers an on_commit() hook that raises what a COMMIT might raise."""
    error = {"integrity": IntegrityError, "operational": OperationalError}[request.GET["act"]]

    def hook() -> None:
        raise error("in the hook")

    transaction.on_commit(hook)
    return bake(request)


@idempotent
def swallows(request: Any) -> HttpResponse:
    """Catches a database error that Django has not seen."""
    response = bake(request, status=int(request.GET["act"]))
    cursor = connection.cursor()
    try:
        cursor.execute("SELECT nothing FROM nowhere")
    except Exception:
        return response
    raise AssertionError


@idempotent
def simple(request: Any, name: str = "") -> HttpResponse:
    """A plain view."""
    return bake(request)


@method_decorator(idempotent(required=True), name="dispatch")
class MethodWins(View):
    """The inner argument wins."""

    @idempotent(required=False)
    def post(self, request: Any) -> HttpResponse:
        return bake(request)


@idempotent(required=True)
@method_decorator(idempotent(required=False), name="dispatch")
class DispatchWins(View):
    """The inner argument wins."""

    def post(self, request: Any) -> HttpResponse:
        return bake(request)


urlpatterns = [
    path("list/", ListOfDecorators.as_view()),
    path("principals/", Principals.as_view()),
    path("subclass/", Subclass.as_view()),
    path("only-post/", OnlyPost.as_view()),
    path("dispatch-below/", DispatchDoorBelow.as_view()),
    path("helper/", WithHelper.as_view()),
    path("helper-method/", WithHelperMethod.as_view()),
    path("apart/", apart),
    path("tenant/", Tenant.as_view()),
    path("hooked/", hooked),
    path("swallows/", swallows),
    path("simple/", simple),
    path("simple/<str:name>/", simple),
    path("method-wins/", MethodWins.as_view()),
    path("dispatch-wins/", DispatchWins.as_view()),
]


def test_authentication_runs_before_a_door_among_other_decorators(key: str, post: Post) -> None:
    """Bob does not get Alice's reply, and neither does an anonymous caller."""
    alice, bob, nobody = (
        post("/list/", key, **headers) for headers in ({"X-User": "a"}, {"X-User": "b"}, {})
    )
    assert effects.count() == 2
    assert alice.content != bob.content
    assert nobody.status_code in (401, 403)


def test_kinds_of_principals_do_not_share_primary_keys(key: str, post: Post) -> None:
    """User 1 and machine 1 are two callers."""
    user = post("/principals/", key, **{"X-User": "a"})
    machine = post("/principals/", key, **{"X-Machine": user["X-For"]})
    assert effects.count() == 2
    assert user.content != machine.content


@pytest.mark.parametrize("aliases", [["default", "other"], ["other"]])
@pytest.mark.parametrize("door", ["/subclass/", "/only-post/"])
def test_nothing_is_replayed_over_rows_missing_elsewhere(
    door: str, aliases: list[str], key: str, post: Post
) -> None:
    """This holds whichever databases are in ATOMIC_REQUESTS, and wherever dispatch comes from."""
    with atomic_requests_on(*aliases):
        replies = [post(door, key) for _ in range(3)]
    assert not any("Idempotent-Replayed" in reply for reply in replies)
    assert not Delivery.objects.using("other").exists()


def test_door_on_an_inherited_dispatch_still_covers(key: str, post: Post) -> None:
    """The subclass may have doors on other methods."""
    replies = [post("/dispatch-below/", key) for _ in range(2)]
    assert effects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_options_of_a_helper_stay_its_own(key: str, post: Post, client: Client) -> None:
    """PATCH is not covered and needs no key, before and after a POST."""
    with atomic_requests_on("default"):
        for _ in range(2):
            assert client.patch("/helper/").status_code == 201
            assert post("/helper/", key).status_code == 201
    assert effects.count() == 3


def test_helper_method_works_with_several_databases(key: str, post: Post) -> None:
    """The records' database commits last in this case as well."""
    with atomic_requests_on("default", "other"):
        replies = [post("/helper-method/", key) for _ in range(2)]
    assert effects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_view_kept_apart_stays_apart(client: Client) -> None:
    """``non_atomic_requests`` may stand above the door."""
    with atomic_requests_on("default"):
        assert client.get("/apart/").json() == {"atomic": False}


def test_view_instances_are_freed(post: Post) -> None:
    """No policy keeps a bound method, which would keep the view and its request."""
    for _ in range(5):
        post("/tenant/", uuid.uuid4().hex)
    gc.collect()
    assert sum(view() is not None for view in VIEWS) <= 1


@pytest.mark.parametrize("error", ["integrity", "operational"])
def test_database_error_in_a_hook_is_the_hook_s(error: str, key: str, post: Post) -> None:
    """500 with and without a key; the retry replays what was committed."""
    assert post("/hooked/", act=error).status_code == 500
    assert post("/hooked/", key, act=error).status_code == 500
    assert post("/hooked/", key, act=error).status_code == 201
    assert Order.objects.count() == effects.count() == 2


@pytest.mark.parametrize(("status", "answer"), [("201", 500), ("402", 402)])
@pytest.mark.parametrize("with_key", [True, False], ids=["key", "no-key"])
def test_swallowed_database_error_is_no_success(
    status: str, answer: int, with_key: bool, key: str, post: Post
) -> None:
    """PostgreSQL rolls back, so the response is no 2xx and no replay. SQLite commits."""
    doomed = connection.vendor == "postgresql"
    reply = post("/swallows/", key if with_key else None, act=status)
    assert reply.status_code == (answer if doomed else int(status))
    assert Order.objects.count() == (0 if doomed else 1)
    again = post("/swallows/", key, act=status)
    assert ("Idempotent-Replayed" in again) == (with_key and not doomed)


def test_class_of_django_s_own_is_left_alone() -> None:
    """A door on ``TemplateView.as_view()`` does not change its other subclasses."""
    idempotent(TemplateView.as_view(template_name="x.html"))

    async def get(self: Any, request: Any) -> HttpResponse:
        return HttpResponse()

    page: Any = type("Page", (TemplateView,), {"get": get})
    assert page.view_is_async


@pytest.mark.parametrize("door", ["/method-wins/", "/dispatch-wins/"])
def test_inner_argument_wins(door: str, post: Post) -> None:
    """The inner one of two doors decides."""
    assert post(door).status_code == 201


def test_text_beside_a_file_of_the_same_name_counts(key: str) -> None:
    """The same file with another text is another request."""
    replies = [
        Client().post(
            "/simple/",
            {"x": [text, SimpleUploadedFile("a.txt", b"1")]},
            headers={"Idempotency-Key": key},
        )
        for text in ("lemon", "carrot")
    ]
    assert effects.count() == 1
    assert replies[1].status_code == 422


def test_order_of_one_name_s_values_counts(key: str, client: Client) -> None:
    """``?a=1&a=2`` is not ``?a=2&a=1``."""
    client.post("/simple/?a=1&a=2", headers={"Idempotency-Key": key})
    reply = client.post("/simple/?a=2&a=1", headers={"Idempotency-Key": key})
    assert effects.count() == 1
    assert reply.status_code == 422


def test_every_path_can_be_recorded(key: str, client: Client) -> None:
    """PostgreSQL's text cannot hold NUL."""
    assert client.post("/simple/a%00b/", headers={"Idempotency-Key": key}).status_code == 201
