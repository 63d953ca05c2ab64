"""The pages a person sees: the window, an order, and the tunnel."""

import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http.response import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from django.views.generic import FormView

from django_idempotency.decorators import idempotent
from django_idempotency.views import IdempotencyFormMixin

from . import kitchen
from .cakes import Cake
from .forms import CakeForm
from .middleware import origin_of
from .models import Order, Origin
from .visits import Reception, Reply, ShopRequest

if TYPE_CHECKING:
    _CakeFormView = FormView[CakeForm]
else:
    _CakeFormView = FormView

# The tunnel's two sides, and the ids of their fields.
_TUNNEL = {Origin.WITHOUT_KEY: "without_%s", Origin.WITH_KEY: "with_%s"}


def _place(request: ShopRequest, form: CakeForm) -> Order:
    order = Order.objects.create(
        cake=form.cleaned_data["cake"],
        icing=form.cleaned_data["icing"],
        origin=origin_of(request),
        customer=request.user if request.user.is_authenticated else None,
        visitor=request.visit.visitor,
    )
    kitchen.bake(order, settings.SHOP_BAKE_SECONDS)
    return order


# Not @never_cache: Back has to find the page that was sent, with its key.
class HomeView(IdempotencyFormMixin, _CakeFormView):
    """The window; a customer who orders there is led to the page of her order."""

    request: ShopRequest
    form_class = CakeForm
    template_name = "shop/home.html"
    idempotency_required = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """What is in the window, and what is on the way."""
        orders = Order.objects.of_visitor(self.request.visit.visitor).on_the_way()
        extra = {"cakes": list(Cake), "orders": orders[:6], "total": orders.count()}
        return super().get_context_data(**extra, **kwargs)

    def form_valid(self, form: CakeForm) -> HttpResponse:
        """Take the order."""
        return redirect(_place(self.request, form))


def _came_twice(request: ShopRequest, order: Order) -> bool:
    """Whether the visitor's last order on the order page is this one, and its reply a replay."""
    orders = Order.objects.of_visitor(request.visit.visitor).from_door(Origin.SHOP)
    replayed = request.visit.replies.get(Origin.SHOP) == Reply.REPLAYED
    return replayed and orders.first() == order


@never_cache
def order(request: ShopRequest, ticket: uuid.UUID) -> HttpResponseBase:
    """Show one order to the holder of its ticket."""
    found = get_object_or_404(Order, ticket=ticket)
    context = {"order": found, "came_twice": _came_twice(request, found)}
    return TemplateResponse(request, "shop/order.html", context)


def _side(request: ShopRequest, origin: Origin, form: CakeForm) -> dict[str, Any]:
    orders = Order.objects.of_visitor(request.visit.visitor).from_door(origin).on_the_way()
    return {
        "origin": origin,
        "keyed": origin is Origin.WITH_KEY,
        "form": form,
        "orders": orders,
        "reply": _reply(request, origin),
    }


def _reply(request: ShopRequest, origin: Origin) -> str | None:
    return request.visit.replies.get(origin)


def _verdict(request: ShopRequest, without_key: int, with_key: int) -> dict[str, int] | None:
    """The two counts, when both sides have been played to the end and differ."""
    played = _reply(request, Origin.WITHOUT_KEY) == Reply.FIRST
    replayed = _reply(request, Origin.WITH_KEY) == Reply.REPLAYED
    if not (played and replayed and without_key > with_key):
        return None
    return {"without_key": without_key, "with_key": with_key}


def _tunnel_page(request: ShopRequest, **bound: CakeForm) -> HttpResponseBase:
    """The two sides next to each other; ``bound`` holds a form to correct, by its origin's name."""
    forms = {
        door: bound.get(door.name) or CakeForm(auto_id=auto_id, initial={"icing": "Ada"})
        for door, auto_id in _TUNNEL.items()
    }
    sides = [_side(request, door, form) for door, form in forms.items()]
    verdict = _verdict(request, *(len(side["orders"]) for side in sides))
    return TemplateResponse(request, "shop/tunnel.html", {"sides": sides, "verdict": verdict})


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
    form = CakeForm(request.POST, auto_id=_TUNNEL[origin])
    if not form.is_valid():
        request.idempotency.release()
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
