"""One kitchen behind every door: ``?act=`` names what it does, and each run makes a new nonce, so
that no two runs have the same reply.
"""

import functools
import time
import uuid
from collections.abc import Callable
from io import BytesIO
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import transaction
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.template import engines
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods
from django.views.decorators.vary import vary_on_headers

from django_idempotency.decorators import idempotent

from . import effects
from .models import Delivery, Order

Act = Callable[[Any, str], HttpResponseBase]


#: Whether the request is REST framework's: its response class; ``tests.app.api`` adds its own.
RESPONSES: dict[bool, Callable[..., HttpResponseBase]] = {False: JsonResponse}


def json_response(request: Any, data: dict[str, Any], status: int = 201) -> HttpResponseBase:
    """The response class of the door the request came through."""
    return RESPONSES[hasattr(request, "parser_context")](data, status=status)


def order(request: Any, nonce: str) -> HttpResponseBase:
    """201 with headers of all kinds and a cookie."""
    response = json_response(request, {"nonce": nonce})
    response["Location"] = f"/orders/{nonce}"
    response["ETag"] = f'"{nonce}"'
    response["Link"] = '</a>; rel="next", </b>; rel="prev"'
    response["X-Kitchen"] = "Zürich"
    response.set_cookie("session", nonce)
    return response


def slow(request: Any, nonce: str) -> HttpResponseBase:
    """201 after a while."""
    time.sleep(float(request.GET.get("seconds", "0.3")))
    return json_response(request, {"nonce": nonce})


def latin(request: Any, nonce: str) -> HttpResponseBase:
    """Text that is no UTF-8."""
    return HttpResponse(f"Törtchen {nonce}".encode("latin-1"), "text/plain; charset=latin-1")


def binary(request: Any, nonce: str) -> HttpResponseBase:
    """Every byte there is."""
    return HttpResponse(bytes(range(256)) + nonce.encode(), "application/octet-stream")


def no_content(request: Any, nonce: str) -> HttpResponseBase:
    """204."""
    return HttpResponse(status=204, headers={"X-Nonce": nonce})


def redirect(request: Any, nonce: str) -> HttpResponseBase:
    """302."""
    return HttpResponseRedirect(f"/orders/{nonce}")


def page(request: Any, nonce: str) -> HttpResponseBase:
    """A template response, which Django would render after the view."""
    template = engines["django"].from_string("<p>{{ nonce }} {{ count }}</p>")
    return TemplateResponse(
        request,
        template,
        {"nonce": nonce, "count": Order.objects.count},
    )


def file(request: Any, nonce: str) -> HttpResponseBase:
    """A file."""
    return FileResponse(BytesIO(nonce.encode() * 100), as_attachment=True, filename="cake.txt")


def stream(request: Any, nonce: str) -> HttpResponseBase:
    """A stream, which cannot be repeated."""
    return StreamingHttpResponse(iter([nonce.encode()]))


def payment_required(request: Any, nonce: str) -> HttpResponseBase:
    """402, returned: an outcome."""
    return json_response(request, {"nonce": nonce}, 402)


def unauthorized(request: Any, nonce: str) -> HttpResponseBase:
    """401, returned: no outcome."""
    return json_response(request, {"nonce": nonce}, 401)


def unavailable(request: Any, nonce: str) -> HttpResponseBase:
    """503, returned."""
    return json_response(request, {"nonce": nonce}, 503)


def crash(request: Any, nonce: str) -> HttpResponseBase:
    """A bug."""
    raise RuntimeError(nonce)


def homeless(request: Any, nonce: str) -> HttpResponseBase:
    """Success whose COMMIT fails."""
    Delivery.objects.create(order_id=2**31 - 1)
    return json_response(request, {"nonce": nonce})


def homeless_elsewhere(request: Any, nonce: str) -> HttpResponseBase:
    """Success whose COMMIT fails on the other database."""
    Delivery.objects.using("other").create(order_id=2**31 - 1)
    return json_response(request, {"nonce": nonce})


def elsewhere_and_crash(request: Any, nonce: str) -> HttpResponseBase:
    """A write on the other database, and then a bug."""
    Order.objects.using("other").create(nonce=nonce)
    raise RuntimeError(nonce)


def broken_hook(request: Any, nonce: str) -> HttpResponseBase:
    """Success, and then an on_commit hook that raises."""

    def hook() -> None:
        raise RuntimeError("hook")

    transaction.on_commit(hook)
    return json_response(request, {"nonce": nonce})


def marked(request: Any, nonce: str) -> HttpResponseBase:
    """Success from a transaction that is marked for rollback."""
    transaction.set_rollback(True)
    return json_response(request, {"nonce": nonce})


def starts_session(request: Any, nonce: str) -> HttpResponseBase:
    """An order that begins a session."""
    request.session["cart"] = nonce
    return json_response(request, {"nonce": nonce})


def rolls_back(request: Any, nonce: str) -> HttpResponseBase:
    """201, and the writes go."""
    request.idempotency.rollback()
    return json_response(request, {"nonce": nonce})


def releases(request: Any, nonce: str) -> HttpResponseBase:
    """201, and the key is freed."""
    request.idempotency.release()
    return json_response(request, {"nonce": nonce})


def keeps(request: Any, nonce: str) -> HttpResponseBase:
    """503, kept."""
    request.idempotency.keep()
    return json_response(request, {"nonce": nonce}, 503)


class CakeForm(forms.Form):
    """A form with a field that is missing."""

    cake = forms.CharField()


def other_form(request: Any, nonce: str) -> HttpResponseBase:
    """A page after the order that holds another form with errors: 200, an outcome."""
    template = engines["django"].from_string(nonce)
    return TemplateResponse(request, template, {"form": CakeForm({})})


def none(request: Any, nonce: str) -> Any:
    """A forgotten return."""
    return None


ACTS: dict[str, Act] = {
    function.__name__: function
    for function in (
        *(order, slow, latin, binary, no_content, redirect, page, file, stream, none),
        *(payment_required, unauthorized, unavailable, crash, homeless),
        *(homeless_elsewhere, broken_hook, marked, starts_session, rolls_back, releases, keeps),
        *(other_form, elsewhere_and_crash),
    )
}


def kitchen(request: Any) -> Any:
    """Write an order, leave an effect outside the database, and answer as ``?act=`` says."""
    nonce = uuid.uuid4().hex
    Order.objects.create(nonce=nonce)
    effects.happened(nonce)
    return ACTS[request.GET.get("act", "order")](request, nonce)


@idempotent
def function(request: Any) -> Any:
    """The bare decorator."""
    return kitchen(request)


@idempotent()
def called(request: Any) -> Any:
    """The called decorator."""
    return kitchen(request)


@csrf_exempt
@idempotent
def exempt(request: Any) -> Any:
    """A door for clients without a browser."""
    return kitchen(request)


def as_customer(view: Callable[..., Any]) -> Callable[..., Any]:
    """Log a user in before the view."""

    @functools.wraps(view)
    def inner(request: Any) -> Any:
        request.user = User(pk=7)
        return view(request)

    return inner


@csrf_exempt
@as_customer
@login_required
@never_cache
@cache_control(private=True)
@vary_on_headers("Accept")
@require_http_methods(["GET", "POST", "PATCH"])
@idempotent
def wrapped(request: Any) -> Any:
    """The door is below every decorator that views usually have."""
    return kitchen(request)


@idempotent
@require_http_methods(["GET", "POST", "PATCH"])
@cache_control(private=True)
@csrf_exempt
def wrapping(request: Any) -> Any:
    """The door is above them."""
    return kitchen(request)


class Plain(View):
    """Django's own class-based view."""

    def get(self, request: Any) -> Any:
        return kitchen(request)

    def post(self, request: Any) -> Any:
        return kitchen(request)


@idempotent
class Decorated(Plain):
    """The decorator on a class."""


class Method(View):
    """The decorator on a method."""

    def get(self, request: Any) -> Any:
        return kitchen(request)

    @idempotent
    def post(self, request: Any) -> Any:
        return kitchen(request)


@method_decorator(idempotent, name="post")
class MethodDecorator(Plain):
    """Django's method_decorator on a method."""


@method_decorator(idempotent, name="dispatch")
class DispatchDecorator(Plain):
    """Django's method_decorator on dispatch."""


@idempotent(field="key")
def form(request: Any) -> Any:
    """A key that comes in a form."""
    return kitchen(request)


@csrf_exempt
def nothing(request: Any) -> Any:
    """A view that does nothing, for measurements."""
    return HttpResponse()


@idempotent(required=True)
def required(request: Any) -> Any:
    """A view that requires a key."""
    return kitchen(request)


@idempotent(atomic=False)
def plainly(request: Any) -> Any:
    """A view that commits by itself."""
    return kitchen(request)


@csrf_exempt
@idempotent(required=True)
def charge(request: Any) -> Any:
    """What Stripe's clients ask for: a form, and JSON in return."""
    nonce = uuid.uuid4().hex
    Order.objects.create(nonce=nonce)
    effects.happened(nonce)
    amount = int(request.POST["amount"])
    return JsonResponse({"id": f"ch_{nonce}", "object": "charge", "amount": amount})


def bare(request: Any) -> Any:
    """The kitchen without a door: statement counts are compared with it."""
    with transaction.atomic():
        return kitchen(request)


@idempotent
def who(request: Any) -> Any:
    """A view that authenticates inside its body."""
    return HttpResponse(f"secret of {request.headers.get('Authorization')} {uuid.uuid4()}")
