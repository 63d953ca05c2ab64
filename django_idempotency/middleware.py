"""The door around a whole project, or around some of its URLs, for views that stay as they are.

Classes are covered inside, after their authentication, as by the other doors. A function is called
from here; one that authenticates inside of itself is refused, because a reply might reach a
stranger.
"""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from . import conf
from .decorators import aenter, enter
from .doors import classes, ninja
from .doors.marks import mark_of, view_class_of
from .engine.atomic_requests import own_transactions
from .policy import resolve


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, path) for pattern in patterns)


def _is_covered(path: str) -> bool:
    path = path.lstrip("/")
    return _matches(path, conf.urls()) and not _matches(path, conf.exempt_urls())


def covers(path: str) -> bool:
    """Whether the project has the middleware, which covers this path."""
    return f"{__name__}.IdempotencyMiddleware" in settings.MIDDLEWARE and _is_covered(path)


def _called(view: Any, /, *args: Any, **kwargs: Any) -> Any:
    """A function's response; one of REST framework's says that a view class is hidden in there."""
    response = view(*args, **kwargs)
    if hasattr(response, "accepted_renderer"):
        raise ImproperlyConfigured(
            f"{view!r} hides a view of REST framework, whose caller cannot be known before it runs."
            " Use functools.wraps() in its decorator, or list its path in IDEMPOTENCY_EXEMPT_URLS."
        )
    return response


def _refuse_ninja(view: Any) -> None:
    if ninja.is_callback(view):
        raise ImproperlyConfigured(
            f"{view!r} is Django Ninja's and authenticates by itself. Put"
            " @decorate_view(idempotent) on its operations, or list its path in"
            " IDEMPOTENCY_EXEMPT_URLS."
        )


class IdempotencyMiddleware:
    """Covers the views of ``IDEMPOTENCY_URLS`` but not those of ``IDEMPOTENCY_EXEMPT_URLS``.

    Both are lists of regular expressions for the path without its leading slash; by default all
    paths are covered. A view with a door of its own keeps its options. Raises ImproperlyConfigured
    unless it is the last of ``MIDDLEWARE``: it calls functions itself, so that a later middleware,
    CSRF protection for example, would not see them.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        if name in settings.MIDDLEWARE and settings.MIDDLEWARE[-1] != name:
            raise ImproperlyConfigured(f"{name} must be the last of MIDDLEWARE.")

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        """The response of a function whose method is covered; None for all that Django calls."""
        if not _is_covered(request.path_info) or mark_of(view).options is not None:
            return None
        cls = view_class_of(view)
        if cls is not None:
            # Both change what is not the project's: after its authentication a class can be covered
            # only from inside, and Django looks for its mark on the callback, when this returns.
            classes.cover_dispatch(cls)
            own_transactions(view)
            classes.announce(request, cls, {}, view)
            return None
        if request.method not in resolve({}).methods:
            return None
        _refuse_ninja(view)
        if iscoroutinefunction(view):
            return async_to_sync(aenter)(view, view, {}, (request, *args), kwargs)
        return enter(view, functools.partial(_called, view), {}, (request, *args), kwargs)
