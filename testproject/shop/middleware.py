"""The way between the shop and the visitor, on which a reply can get lost."""

from collections.abc import Callable
from typing import cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from . import visits
from .models import Origin
from .visits import Reply, ShopRequest

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# The views that take orders from a person. A tunnel that swallowed its own switch were a trap.
_ORDERING = frozenset(("shop:home", "shop:tunnel-order"))


class VisitMiddleware:
    """Puts the visit on the request and, on the site's own pages, back into the cookie."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        visit = visits.read(request)
        cast(ShopRequest, request).visit = visit
        response = self.get_response(request)
        if request.resolver_match and request.resolver_match.app_name == "shop":
            visits.write(visit, response)
        return response


def _is_order(request: HttpRequest) -> bool:
    match = request.resolver_match
    return request.method == "POST" and match is not None and match.view_name in _ORDERING


def origin_of(request: HttpRequest) -> Origin:
    """The door a person's order came in by."""
    if request.resolver_match and request.resolver_match.view_name == "shop:home":
        return Origin.SHOP
    return Origin.WITH_KEY if "idempotency_key" in request.POST else Origin.WITHOUT_KEY


def _kind(response: HttpResponseBase) -> Reply:
    if not 300 <= response.status_code < 400:
        return Reply.REFUSED
    return Reply.REPLAYED if response.has_header("Idempotent-Replayed") else Reply.FIRST


def _lost(request: HttpRequest) -> HttpResponseBase:
    """What the visitor sees instead: no reply, and a button that sends it all again."""
    fields = [(name, value) for name, values in request.POST.lists() for value in values]
    return render(request, "shop/lost.html", {"fields": fields}, status=504)


class TunnelMiddleware:
    """Throws away the finished reply to an order when its visitor is in the tunnel.

    The order was processed and committed; only the reply is gone, cookies included.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        return self._send(cast(ShopRequest, request), response) if _is_order(request) else response

    def _send(self, request: ShopRequest, response: HttpResponseBase) -> HttpResponseBase:
        lost = request.visit.loses_a_reply()
        request.visit.replies[origin_of(request)] = Reply.LOST if lost else _kind(response)
        return _lost(request) if lost else response


class ContentSecurityPolicyMiddleware:
    """The admin's pages load nothing from elsewhere and run nothing that stands in the page."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.path.startswith("/admin/"):
            response["Content-Security-Policy"] = "default-src 'self'; object-src 'none'"
        return response
