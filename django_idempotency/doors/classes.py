"""Where a request enters: which view it is for, what that view asked for, and which way it takes.

A door collects options, and covers the one call of the handler, after authentication, permissions
and throttling. On classes the handler is replaced on the view instance, by the class's own
``dispatch``; under ATOMIC_REQUESTS that ``dispatch`` also takes over the transactions Django would
have opened.
"""

import functools
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..engine.atomic_requests import (
    apart_of,
    commits_last,
    is_taken_over,
    request_transactions,
    take_over_transactions,
)
from ..engine.execution import database_of
from ..exceptions import UnavailableError
from ..http.requests import http_request, is_rest_framework
from ..policy import Options, Policy
from .calls import (
    Handler,
    RestFrameworkCall,
    cover_async,
    cover_plain,
    is_entered,
    refuse,
)
from .policies import OPTIONS, handler_of, policy_of

_OUTER = "_idempotency_outer"
_HOOKED = "_idempotency_hooked"
_ENTERED = "_idempotency_entered"


def refuse_atomic(view: Any, options: Options) -> None:
    """Raise ImproperlyConfigured for a coroutine function that is to run in a transaction."""
    # asgiref knows the mark as_view() leaves on Python 3.11, too.
    if options.get("atomic") and iscoroutinefunction(view):
        raise ImproperlyConfigured(
            f"{view!r} is async and cannot be atomic: Django has no transactions for coroutines."
        )


def refuse_atomic_handlers(cls: type[Any], options: Options) -> None:
    """Raise ImproperlyConfigured for a view class with an async handler that is to be atomic."""
    for name in getattr(cls, "http_method_names", ()):
        refuse_atomic(getattr(cls, name, None), options)


def refuse_atomic_requests(apart: Collection[str]) -> None:
    """What Django says of an async view under ATOMIC_REQUESTS; it left the matter to the door."""
    if any(connections[a].settings_dict["ATOMIC_REQUESTS"] for a in connections if a not in apart):
        raise RuntimeError(
            "You cannot use ATOMIC_REQUESTS with async views. Put @transaction.non_atomic_requests"
            " on the view."
        )


def cover(
    request: Any, policy: Policy, handler: Handler, view: Any, apart: Collection[str]
) -> HttpResponseBase:
    """Cover one call; ``view`` is the function or the instance whose door this is."""
    if is_entered(request):
        return handler()
    if not commits_last(database_of(request, policy)):
        _take_over_callback(request, view)
        return refuse(request, UnavailableError())
    if is_rest_framework(request):
        return RestFrameworkCall(request, policy, handler).run(apart)
    return cover_plain(request, policy, handler, apart)


def _take_over_callback(request: Any, view: Any) -> None:
    """See to it that the next request finds its transactions in our hands.

    Django has opened them around a door that the URL's callback hides, and they would commit in an
    order that could replay over missing rows: nothing may run now.
    """
    match = http_request(request).resolver_match
    if match is None or is_taken_over(match.func):
        raise ImproperlyConfigured(
            f"{view!r} is called inside transactions of several databases. Put @idempotent on the"
            " view that the URL names."
        )
    if hasattr(type(view), "dispatch"):
        hook(type(view), subclasses=False)
    take_over_transactions(match.func)


def _protect(view: Any, request: HttpRequest, of_dispatch: Options | None) -> bool:
    """Replace the handler on the view instance by a covered one; False if this is not covered."""
    method = request.method or ""
    handler = handler_of(view, method)
    if handler is None:
        return False
    outside = [door.options for door in _doors_outside(view, request)]
    policy = policy_of(view, method, outside, of_dispatch)
    if policy is None:
        return False
    setattr(view, method.lower(), _protected(view, handler, policy, _apart_of(view, request)))
    return True


def _protected(
    view: Any, handler: Any, policy: Policy, apart: Collection[str]
) -> Callable[..., Any]:
    def protected(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        call = functools.partial(handler, request, *args, **kwargs)
        return cover(request, policy, call, view, apart)

    def aprotected(request: Any, *args: Any, **kwargs: Any) -> Awaitable[HttpResponseBase]:
        call = functools.partial(handler, request, *args, **kwargs)
        return call() if is_entered(request) else cover_async(request, policy, call)

    return aprotected if _is_coroutine(getattr(handler, "__func__", handler)) else protected


@functools.lru_cache(1024)
def _is_coroutine(function: Callable[..., Any]) -> bool:
    """What is asked of the same functions again and again, and takes its time."""
    return bool(iscoroutinefunction(function))


@functools.cache
def _is_async(cls: Hashable) -> bool:
    """What Django's ``as_view()`` asks of a class once, and looks at every handler for."""
    return bool(getattr(cls, "view_is_async", False))


def dispatched(
    view: Any, request: HttpRequest, dispatch: Callable[[], Any], of_dispatch: Options | None = None
) -> Any:
    """What ``dispatch()`` returns for this view instance, its handler covered if it is to be.

    ``of_dispatch`` are the options of a door on ``dispatch`` itself.
    """
    if vars(view).get(_ENTERED) is request:
        return dispatch()
    covered = _protect(view, request, of_dispatch)
    if covered:
        setattr(view, _ENTERED, request)
    apart = _apart_of(view, request)
    if _is_async(cast(Hashable, type(view))):
        refuse_atomic_requests(apart)
        return dispatch()
    # In a TestCase, REST framework's set_rollback() must find a transaction that is the request's.
    with request_transactions(apart, joined_only=covered):
        return dispatch()


def hook(cls: type[Any], options: Options | None = None, *, subclasses: bool = True) -> None:
    """Give a view class its own ``dispatch``, which covers the handler; ``options`` are a door's.

    Without options only those calls are covered that have some of their own. A class that is not
    the project's to change keeps its ``subclasses`` as they are.
    """
    if options is not None:
        refuse_atomic_handlers(cls, options)
        setattr(cls, OPTIONS, {**getattr(cls, OPTIONS, {}), **options})
    if getattr(cls.dispatch, _HOOKED, False):
        return
    own = vars(cls).get("dispatch")

    @functools.wraps(cls.dispatch)
    def dispatch(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        inner = own.__get__(self) if own else super(cls, self).dispatch
        return dispatched(self, request, functools.partial(inner, request, *args, **kwargs))

    take_over_transactions(dispatch)
    setattr(dispatch, _HOOKED, True)
    cls.dispatch = dispatch
    if subclasses:
        _hook_subclasses(cls)


def _hook_subclasses(cls: type[Any]) -> None:
    """A subclass may define ``dispatch`` itself, or get another base's."""
    own = vars(cls).get("__init_subclass__")

    def hooking(sub: type[Any], /, **kwargs: Any) -> None:
        inner = own.__get__(None, sub) if own else super(cls, sub).__init_subclass__
        inner(**kwargs)
        hook(sub)

    hooked: Any = classmethod(hooking)
    cls.__init_subclass__ = hooked


@dataclass(frozen=True, slots=True)
class _Outside:
    """A door around a class's callback: what it asks for, and what it is kept out of."""

    cls: type[Any]
    options: Options
    apart: Collection[str]


def announce(request: HttpRequest, cls: type[Any], options: Options, door: Any) -> None:
    """Tell the class's dispatch what a door outside of it asks for this request."""
    outside = _Outside(cls, options, apart_of(door))
    vars(request).setdefault(_OUTER, []).append(outside)


def _doors_outside(view: Any, request: HttpRequest) -> list[_Outside]:
    outer: list[_Outside] = vars(request).get(_OUTER, [])
    return [door for door in outer if isinstance(view, door.cls)]


def _apart_of(view: Any, request: HttpRequest) -> Collection[str]:
    """The aliases the project keeps out of a class's ATOMIC_REQUESTS, wherever it says so."""
    own = apart_of(type(view).dispatch)
    outside = _doors_outside(view, request)
    return frozenset(own).union(*(door.apart for door in outside)) if outside else own
