"""Covered views that do what a test says, and the services and cakes that its steps are about.

A test writes an act, a function of the running operation, and puts it on the stage. What happens
outside of the database is a line in the effects log; each run of a view answers with a new nonce.
"""

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, TypeVar

import pytest
from django.contrib.auth.decorators import login_required
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.durable.completer import complete_due
from django_idempotency.models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
    UtcNow,
)
from tests.app import effects
from tests.app.models import Order

Act = Callable[[Any], Any]
A = TypeVar("A", bound=Act)

#: The marks of tests that send requests to these views.
ON_STAGE = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

PAST = UtcNow() - timedelta(seconds=1)

#: What the views do, and coroutines in their stead.
_act: list[Act] = []


class DiedError(BaseException):
    """The worker ends here, and no handler of errors is asked."""


class DownError(ConnectionError):
    """A service does not answer."""


class DeclinedError(Exception):
    """A service says no, for good."""


def plays(act: A) -> A:
    """Put an act on the stage: ``act(operation)`` returns a response, or what goes into one."""
    _act[:] = [act]
    return act


def fails_first(work: Callable[..., Any] = lambda: None, *errors: BaseException) -> Any:
    """The same work; after it each of these errors is raised once (one DownError by default)."""
    left = list(errors or [DownError()])

    def failing(*args: Any, **kwargs: Any) -> Any:
        done = work(*args, **kwargs)
        if left:
            raise left.pop(0)
        return done

    return failing


def _answer(outcome: Any) -> HttpResponseBase:
    if isinstance(outcome, HttpResponseBase):
        return outcome
    return JsonResponse({"nonce": uuid.uuid4().hex, "outcome": outcome}, status=201)


def _perform(request: Any) -> HttpResponseBase:
    return _answer(_act[0](request.idempotency))


@idempotent(atomic=False)
def plain(request: HttpRequest) -> HttpResponseBase:
    """Each step commits by itself."""
    return _perform(request)


@idempotent
def whole(request: HttpRequest) -> HttpResponseBase:
    """All steps are one transaction."""
    return _perform(request)


@idempotent(atomic=False)
async def coroutine(request: HttpRequest) -> HttpResponseBase:
    """The same for coroutines."""
    return _answer(await _act[0](request.idempotency))


@csrf_exempt
@idempotent(atomic=False, keep_request=True)
def kept(request: HttpRequest) -> HttpResponseBase:
    """A completer can finish it."""
    return _perform(request)


@idempotent(keep_request=True)
def kept_whole(request: HttpRequest) -> HttpResponseBase:
    """A completer can finish it, and all of it is one transaction."""
    return _perform(request)


@csrf_exempt
@idempotent(atomic=False, keep_request=True)
async def kept_coroutine(request: HttpRequest) -> HttpResponseBase:
    """A completer can finish it, though it is none itself."""
    return _answer(await _act[0](request.idempotency))


@csrf_exempt
@idempotent(atomic=False, keep_request=True, using="other")
def kept_elsewhere(request: HttpRequest) -> HttpResponseBase:
    """A completer of another database can finish it."""
    return _perform(request)


@login_required(login_url="/login/")
@idempotent(atomic=False, keep_request=True)
def member(request: HttpRequest) -> HttpResponseBase:
    """Only for users who are logged in; protected against forged requests."""
    return _perform(request)


@method_decorator(idempotent(atomic=False), name="post")
class Hidden(View):
    """Under ATOMIC_REQUESTS its claim joins the request's transaction: no door can keep it out."""

    def post(self, request: HttpRequest) -> HttpResponseBase:
        return _perform(request)


def unprotected(request: HttpRequest) -> HttpResponseBase:
    """Covered by the middleware alone."""
    return _perform(request)


def login(request: HttpRequest) -> HttpResponse:
    """Where anonymous users are sent."""
    return HttpResponse("Who are you?")


urlpatterns = [
    path("plain/", plain),
    path("whole/", whole),
    path("coroutine/", coroutine),
    path("kept/", kept),
    path("kept/whole/", kept_whole),
    path("kept/coroutine/", kept_coroutine),
    path("kept/elsewhere/", kept_elsewhere),
    path("kept/törtchen/€/", kept),
    path("member/", member),
    path("hidden/", Hidden.as_view()),
    path("unprotected/", unprotected),
    path("login/", login),
]

if find_spec("rest_framework"):
    from rest_framework.authentication import TokenAuthentication
    from rest_framework.permissions import DjangoModelPermissions, IsAuthenticated
    from rest_framework.views import APIView

    from django_idempotency.rest_framework import IdempotencyMixin

    class Api(IdempotencyMixin, APIView):
        """Only for callers with a token."""

        authentication_classes = (TokenAuthentication,)
        permission_classes: tuple[Any, ...] = (IsAuthenticated,)
        idempotency_atomic = False
        idempotency_keep_request = True

        def post(self, request: Any) -> Any:
            return _perform(request)

    class Clerks(Api):
        """Only for callers with a token who may add orders."""

        permission_classes = (DjangoModelPermissions,)
        queryset = Order.objects.all()

    urlpatterns += [path("api/", Api.as_view()), path("api/clerks/", Clerks.as_view())]


def bake(cake: str = "lemon") -> dict[str, Any]:
    """A row, and an effect that no rollback undoes."""
    effects.happened(f"bake {cake}")
    order = Order.objects.create(nonce=uuid.uuid4().hex)
    return {"pk": order.pk, "nonce": order.nonce}


class Service:
    """Another service: each key has one entry in its ledger, and its first calls raise ``errors``.

    An error that stands in a tuple is raised after the work was done.
    """

    def __init__(self, *errors: BaseException | tuple[BaseException]) -> None:
        self.errors = list(errors)
        #: The key of each call.
        self.keys: list[str] = []
        self.ledger: dict[str, dict[str, Any]] = {}

    def __call__(self, *args: Any, idempotency_key: str, **kwargs: Any) -> dict[str, Any]:
        self.keys.append(idempotency_key)
        error = self.errors.pop(0) if self.errors else None
        if isinstance(error, BaseException):
            raise error
        new = {"id": uuid.uuid4().hex, "args": list(args), **kwargs}
        entry = self.ledger.setdefault(idempotency_key, new)
        if error:
            raise error[0]
        return entry

    def find(self, *args: Any, idempotency_key: str, **kwargs: Any) -> dict[str, Any] | None:
        """The entry of a key, or None."""
        return self.ledger.get(idempotency_key)


def runs(line: str) -> int:
    """How often that happened."""
    return effects.log().read_text().splitlines().count(line) if effects.log().exists() else 0


def outcome(reply: Any) -> Any:
    """What the act returned; the reply must be its."""
    assert reply.status_code == 201, reply.content
    return json.loads(reply.content)["outcome"]


def code(reply: Any) -> str:
    """The code of a refusal."""
    return str(json.loads(reply.content)["code"])


def record() -> IdempotencyRecord:
    """The only one."""
    return IdempotencyRecord.objects.get()


def steps() -> dict[str, str]:
    """The status of each step, by name."""
    return dict(IdempotencyStep.objects.order_by("pk").values_list("name", "status"))


def step(name: str) -> IdempotencyStep:
    """The step with this name."""
    return IdempotencyStep.objects.get(name=name)


def envelope() -> IdempotencyEnvelope:
    """The only one."""
    return IdempotencyEnvelope.objects.get()


def die() -> None:
    """Make every record look as if its worker died in it and the lease is over."""
    assert IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS, error="", lease_expires_at=PAST, claimed_at=PAST
    )


def expire() -> None:
    """Let the retention of every record be over."""
    assert IdempotencyRecord.objects.update(expires_at=PAST)


def due() -> None:
    """Let every envelope be due."""
    assert IdempotencyEnvelope.objects.update(due_at=PAST)


def completed() -> list[str]:
    """What comes of every envelope, due or not."""
    due()
    return [str(done.completion) for done in complete_due()]


def outlast(duration: timedelta) -> None:
    """Let so much of every lease pass."""
    assert IdempotencyRecord.objects.update(lease_expires_at=F("lease_expires_at") - duration)
