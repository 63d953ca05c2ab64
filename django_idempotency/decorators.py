"""The ``@idempotent`` door: for function views, methods, view classes and ``as_view()`` results."""

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .doors import classes, ninja
from .doors.calls import (
    AsyncHandler,
    Handler,
    cover_async,
    is_entered,
)
from .doors.classes import cover, refuse_atomic_requests
from .doors.policies import OPTIONS, OUTSIDE
from .engine.atomic_requests import (
    apart_of,
    request_transactions,
    take_over_transactions,
)
from .http.requests import http_request, is_rest_framework
from .policy import Options, checked, resolve

V = TypeVar("V", bound=Callable[..., Any])


@overload
def idempotent(view: V, /) -> V: ...
@overload
def idempotent(**options: Any) -> Callable[[V], V]: ...
def idempotent(view: Any = None, /, **options: Any) -> Any:
    """A repeated request with the same key gets the saved response, and its effect happens once.

    Bare (``@idempotent``) or with options (``@idempotent(required=True)``), on a function view, a
    method, a class, or what ``as_view()`` and ``@api_view`` return, sync or async. The options are
    those of :class:`~django_idempotency.policy.Policy`; an async view is never atomic. Raises
    ImproperlyConfigured, at import, for unknown or wrong-typed options.
    """
    checked(options, "@idempotent")
    return functools.partial(_door, options=options) if view is None else _door(view, options)


def _door(view: Any, options: Options) -> Any:
    if isinstance(view, type):
        classes.hook(view, options)
        return view
    classes.refuse_atomic(view, options)
    cls = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if cls is not None:
        return _outside(view, cls, options)
    if inspect.isfunction(view) and _is_in_class_body(view):
        return _Method(view, options)
    operation = bound_instance(view)
    if ninja.is_operation(operation):
        return ninja.checked_first(operation, _function(view, options))
    return _function(view, options)


def _is_in_class_body(function: Callable[..., Any]) -> bool:
    place = function.__qualname__.rpartition(".")[0]
    return place != "" and not place.endswith("<locals>")


def _merged(view: Any, options: Options) -> Options:
    return {**options, **getattr(view, OPTIONS, {})}


def _function(view: Callable[..., Any], options: Options) -> Callable[..., Any]:
    merged = _merged(view, options)
    is_dispatch = getattr(view, "__name__", "") == "dispatch"

    @functools.wraps(view)
    def door(*args: Any, **kwargs: Any) -> Any:
        if is_dispatch:
            return _dispatch(view, merged, args, kwargs)
        return enter(door, view, merged, args, kwargs)

    async def adoor(*args: Any, **kwargs: Any) -> Any:
        return await aenter(adoor, view, merged, args, kwargs)

    chosen = functools.wraps(view)(adoor) if iscoroutinefunction(view) else door
    take_over_transactions(chosen)
    setattr(chosen, OPTIONS, merged)
    return chosen


def _dispatch(
    view: Callable[..., Any], options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A class's ``dispatch``, as ``method_decorator`` hands it over; its handler is what counts."""
    instance = bound_instance(view)
    instance, request = (args[0], args[1]) if instance is None else (instance, args[0])
    return classes.dispatched(instance, request, functools.partial(view, *args, **kwargs), options)


def _outside(view: Any, cls: type[Any], options: Options) -> Callable[..., Any]:
    classes.hook(cls, subclasses=False)

    @functools.wraps(view)
    def door(request: Any, *args: Any, **kwargs: Any) -> Any:
        classes.announce(request, cls, options, door)
        return view(request, *args, **kwargs)

    if iscoroutinefunction(view):
        markcoroutinefunction(door)
    take_over_transactions(door)
    _tell_descriptions(door, view, cls, options)
    return door


def _tell_descriptions(door: Any, view: Any, cls: type[Any], options: Options) -> None:
    """Show the door to who makes REST framework's view from ``initkwargs``, to describe its API."""
    given = getattr(view, "initkwargs", None)
    parameters = inspect.signature(cls).parameters.values()
    if given is not None and any(each.kind is each.VAR_KEYWORD for each in parameters):
        door.initkwargs = {**given, OUTSIDE: {**options, **given.get(OUTSIDE, {})}}


class _Method:
    """A decorated method; it tells its class, whose dispatch then covers it."""

    def __init__(self, view: Callable[..., Any], options: Options) -> None:
        functools.update_wrapper(self, view)
        self._view = view
        self._call = _function(view, options)
        setattr(self, OPTIONS, _merged(view, options))
        if iscoroutinefunction(view):
            markcoroutinefunction(cast(Any, self))

    def __set_name__(self, owner: type[Any], name: str) -> None:
        if name == "dispatch":
            owner.dispatch = self._view
            classes.hook(owner, getattr(self, OPTIONS))
        elif hasattr(owner, "dispatch"):
            classes.hook(owner)

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


def _request_in(args: tuple[Any, ...]) -> Any:
    for candidate in args[:2]:
        if isinstance(http_request(candidate), HttpRequest):
            return candidate
    raise TypeError("@idempotent covers views, which take the request first")


async def aenter(
    door: AsyncHandler,
    view: AsyncHandler,
    options: Options,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> HttpResponseBase:
    """Call an async function view or method, covered or not."""
    request = _request_in(args)
    policy = resolve(options)
    handler = functools.partial(view, *args, **kwargs)
    if is_entered(request):
        return await handler()
    refuse_atomic_requests(apart_of(door))
    if request.method not in policy.methods:
        return await handler()
    return await cover_async(request, policy, handler)


def _instance_behind(request: Any, door: Handler, args: tuple[Any, ...]) -> Any:
    """The view instance whose handler a function door was put on, or None."""
    if args[0] is not request:
        return args[0]
    if is_rest_framework(request):
        return request.parser_context["view"]
    return bound_instance(door)


def enter(
    door: Handler, view: Handler, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> HttpResponseBase:
    """Call a function view or a method: covered, or in the transactions Django would have made."""
    request = _request_in(args)
    policy = resolve(options)
    handler = functools.partial(view, *args, **kwargs)
    if request.method not in policy.methods:
        with request_transactions(apart_of(door)):
            return handler()
    return cover(
        request, policy, handler, _instance_behind(request, view, args) or door, apart_of(door)
    )


def bound_instance(view: Any) -> Any:
    """The instance whose bound method ``method_decorator`` handed over, or None."""
    while view is not None:
        bound = getattr(view, "func", view)
        if (instance := getattr(bound, "__self__", None)) is not None:
            return instance
        view = getattr(view, "__wrapped__", None)
    return None
