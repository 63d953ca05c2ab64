"""Views that meet faults: locks in any order, hooks and templates that fail, other databases.

What a view does is named in its query string. ``?fails=...`` holds for the first attempt only.
"""

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import OperationalError, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template import engines
from django.template.response import TemplateResponse

from django_idempotency.decorators import idempotent
from tests.app import effects
from tests.app.models import Delivery, Order
from tests.app.views import json_response


def place(alias: str = "default") -> str:
    """Write an order, leave an effect outside the database, and return the nonce."""
    nonce = uuid.uuid4().hex
    Order.objects.using(alias).create(nonce=nonce)
    effects.happened(nonce)
    return nonce


def meet() -> None:
    """Called between the two locks; a test may make views wait for each other here."""


def _lock(pk: str) -> None:
    Order.objects.select_for_update().get(pk=pk)


def _lock_carelessly(pk: str) -> None:
    with suppress(OperationalError):
        _lock(pk)


def _lock_in_a_savepoint(pk: str) -> None:
    with suppress(OperationalError), transaction.atomic():
        _lock(pk)


_LOCKS: dict[str, Callable[[str], None]] = {
    "raise": _lock,
    "ignore": _lock_carelessly,
    "savepoint": _lock_in_a_savepoint,
}


def transfer(request: Any) -> HttpResponseBase:
    """Place an order, and lock two more, ``?first=`` and ``?second=``."""
    nonce = place()
    _lock(request.GET["first"])
    meet()
    _LOCKS[request.GET.get("deadlock", "raise")](request.GET["second"])
    return json_response(request, {"nonce": nonce}, int(request.GET.get("status", "201")))


def look_then_write(request: Any) -> HttpResponseBase:
    """Read before the first write: a deferred transaction of SQLite's cannot upgrade its lock."""
    seen = Order.objects.count()
    return json_response(request, {"nonce": place(), "seen": seen})


def look_twice(request: Any) -> HttpResponseBase:
    """Write what depends on everything read: two of these at once are not serializable."""
    seen = Order.objects.count()
    meet()
    return json_response(request, {"nonce": place(), "seen": seen})


def _raise() -> None:
    raise RuntimeError("a bug")


def _raise_what_a_database_raises() -> None:
    raise OperationalError("another database is gone")


_HOOKS: dict[str, Callable[[], None]] = {
    "error": _raise,
    "database": _raise_what_a_database_raises,
}


def hook(request: Any) -> HttpResponseBase:
    """Place an order; a hook raises when it is committed."""
    transaction.on_commit(_HOOKS[request.GET["raises"]], robust="robust" in request.GET)
    return json_response(request, {"nonce": place()})


def _broken(request: Any) -> bool:
    return bool(request.idempotency.attempt == 1)


@idempotent
def page(request: Any) -> HttpResponseBase:
    """Place an order; its template raises in the first attempt."""
    nonce = place()
    template = engines["django"].from_string("<p>{{ nonce }} {{ mood }}</p>")
    context = {"nonce": nonce, "mood": _raise if _broken(request) else "good"}
    return TemplateResponse(request, template, context)


@idempotent
def nowhere(request: Any) -> HttpResponseBase:
    """Place an order; its template does not exist in the first attempt."""
    name = "faults/nowhere.html" if _broken(request) else "django_idempotency/error.html"
    return TemplateResponse(request, name, {"title": place()})


@idempotent
def after_rendering(request: Any) -> HttpResponseBase:
    """Place an order; the first attempt raises after its page was rendered."""
    response = TemplateResponse(request, engines["django"].from_string(place()))
    if _broken(request):
        response.add_post_render_callback(lambda _: _raise())
    return response


def _in(alias: str, request: Any) -> HttpResponseBase:
    """Place an order in a database, and end as ``?act=`` says."""
    nonce = place(alias)
    if request.GET.get("act") == "homeless":
        Delivery.objects.using(alias).create(order_id=2**31 - 1)
    return json_response(request, {"nonce": nonce}, int(request.GET.get("status", "201")))


@idempotent(using="other")
def elsewhere(request: HttpRequest) -> HttpResponseBase:
    """Record and order in the other database, by name."""
    return _in("other", request)


def tenant_of(request: HttpRequest) -> str:
    """The database in which a caller's data are."""
    return request.headers["X-Tenant"]


@idempotent(using=tenant_of)
def tenant(request: HttpRequest) -> HttpResponseBase:
    """Record and order in the caller's database."""
    return _in(tenant_of(request), request)


@idempotent(using="other")
def both(request: HttpRequest) -> HttpResponseBase:
    """The record in the other database, and an order in each."""
    place("default")
    if request.GET.get("act") == "homeless-here":
        Delivery.objects.create(order_id=2**31 - 1)
    return _in("other", request)


def write(request: HttpRequest) -> HttpResponse:
    """Place an order without a door, in a transaction of its own."""
    with transaction.atomic():
        Order.objects.create(nonce="bare")
    return HttpResponse(status=201)


PLAIN = {
    "transfer": idempotent(transfer),
    "look-then-write": idempotent(look_then_write),
    "look-twice": idempotent(look_twice),
    "hook": idempotent(hook),
    "page": page,
    "nowhere": nowhere,
    "after-rendering": after_rendering,
    "elsewhere": elsewhere,
    "tenant": tenant,
    "both": both,
    "write": write,
}
