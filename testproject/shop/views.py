"""The pages a person sees: the window, an order, and the tunnel."""

import uuid
from typing import Any, cast

from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from django_idempotency.decorators import idempotent

from . import kitchen
from .cakes import Cake
from .forms import CakeForm, KeyedCakeForm
from .middleware import origin_of
from .models import Order, Origin
from .visits import Reception, Reply, ShopRequest

_TUNNEL = (Origin.WITHOUT_KEY, Origin.WITH_KEY)


def _place(request: ShopRequest, form: CakeForm) -> Order:
    order = Order.objects.create(
        cake=form.cleaned_data["cake"],
        icing=form.cleaned_data["icing"],
        origin=origin_of(request),
        customer=cast(User, request.user) if request.user.is_authenticated else None,
        visitor=request.visit.visitor,
    )
    kitchen.bake(order)
    return order


# A page from the browser's cache would hold a key that is already used.
@never_cache
@idempotent(field="idempotency_key")
def home(request: ShopRequest) -> HttpResponseBase:
    """Show the window, or take an order and lead to its page."""
    form = KeyedCakeForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        return redirect(_place(request, form))
    orders = Order.objects.of_visitor(request.visit.visitor).on_the_way()
    context = {"form": form, "cakes": list(Cake), "orders": orders[:6], "total": orders.count()}
    return TemplateResponse(request, "shop/home.html", context)


def _came_twice(request: ShopRequest, order: Order) -> bool:
    """Whether the visitor's last order on the order page is this one, and its reply a replay."""
    orders = Order.objects.of_visitor(request.visit.visitor).from_door(Origin.SHOP)
    replayed = request.visit.replies.get(Origin.SHOP) == Reply.REPLAYED
    return replayed and orders.first() == order


@never_cache
def order(request: ShopRequest, ticket: uuid.UUID) -> HttpResponseBase:
    """Show one order to whoever holds its ticket."""
    found = get_object_or_404(Order, ticket=ticket)
    context = {"order": found, "came_twice": _came_twice(request, found)}
    return TemplateResponse(request, "shop/order.html", context)


def _counts(visitor: uuid.UUID) -> dict[str, int]:
    """How many cakes are on the way to the visitor, for each side of the tunnel's page."""
    doors = {origin.name: Count("pk", Q(origin=origin)) for origin in _TUNNEL}
    return Order.objects.of_visitor(visitor).on_the_way().aggregate(**doors)


def _side(request: ShopRequest, origin: Origin, form: CakeForm, count: int) -> dict[str, Any]:
    return {
        "origin": origin,
        "form": form,
        "cakes": Cake.choices,
        "count": count,
        "reply": request.visit.replies.get(origin),
    }


def _tunnel_page(request: ShopRequest, **bound: CakeForm) -> HttpResponseBase:
    """The two sides next to each other; ``bound`` holds a form to correct, by its origin's name."""
    counts = _counts(request.visit.visitor)
    forms = {
        Origin.WITHOUT_KEY: CakeForm(auto_id="without_%s", initial={"icing": "Ada"}),
        Origin.WITH_KEY: KeyedCakeForm(auto_id="with_%s", initial={"icing": "Ada"}),
    }
    sides = [
        _side(request, origin, bound.get(origin.name, form), counts[origin.name])
        for origin, form in forms.items()
    ]
    return TemplateResponse(request, "shop/tunnel.html", {"sides": sides, "counts": counts})


@never_cache
def tunnel(request: ShopRequest) -> HttpResponseBase:
    """Show the same order sent without and with a key, side by side."""
    return _tunnel_page(request)


@never_cache
@require_POST
@idempotent(field="idempotency_key")
def tunnel_order(request: ShopRequest) -> HttpResponseBase:
    """Take an order from either side; only the key in the form tells them apart."""
    origin = origin_of(request)
    if origin is Origin.WITH_KEY:
        form: CakeForm = KeyedCakeForm(request.POST, auto_id="with_%s")
    else:
        form = CakeForm(request.POST, auto_id="without_%s")
    if not form.is_valid():
        return _tunnel_page(request, **{origin.name: form})
    _place(request, form)
    return redirect("shop:tunnel")


@require_POST
def reception(request: ShopRequest) -> HttpResponseBase:
    """Send the visitor into the tunnel, or fetch her out of it."""
    inside = request.POST.get("reception") == Reception.NONE
    request.visit.reception = Reception.NONE if inside else Reception.GOOD
    return redirect("shop:tunnel")


@require_POST
def reset(request: ShopRequest) -> HttpResponseBase:
    """Forget the visitor's cakes from the tunnel, and how they were answered."""
    Order.objects.of_visitor(request.visit.visitor).from_door(*_TUNNEL).delete()
    request.visit.replies.clear()
    return redirect("shop:tunnel")
