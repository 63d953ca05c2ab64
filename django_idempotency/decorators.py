"""The ``@idempotent`` door: for function views, methods, view classes and ``as_view()`` results.

The doors of functions and methods are here; those of classes are in :mod:`.doors.classes`. What a
function is bound to when it is called decides what is covered; its name does not.
"""

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import View

from .doors import classes, ninja
from .doors.calls import AsyncHandler, Handler, acall, is_entered
from .doors.marks import MARK, Mark, bound_method, is_dispatch, leave, mark_of, view_class_of
from .engine.atomic_requests import apart_of, own_transactions, request_transactions
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
        return _class(view, options)
    if isinstance(view, staticmethod | classmethod):
        return type(view)(_door(view.__func__, options))
    classes.refuse_atomic(view, options)
    cls = view_class_of(view)
    if cls is not None:
        return _callback(view, cls, options)
    if inspect.isfunction(view) and _is_in_class_body(view):
        return _Method(view, options)
    operation = getattr(bound_method(view), "__self__", None)
    if ninja.is_operation(operation):
        return ninja.checked_first(operation, _function(view, options))
    return _function(view, options)


def _class(cls: type[Any], options: Options) -> type[Any]:
    if not hasattr(cls, "dispatch"):
        raise ImproperlyConfigured(
            f"{cls!r} is no view class. Put @idempotent on the method that takes the request."
        )
    attributes = [name for name in dir(cls) if name.startswith("idempotency_")]
    if attributes and not hasattr(cls, "get_idempotency_options"):
        raise ImproperlyConfigured(
            f"{cls.__qualname__}.{attributes[0]} would be ignored: options are attributes only of"
            " classes with IdempotencyMixin. Give it to @idempotent."
        )
    classes.cover_class(cls, options)
    return cls


def _callback(view: Any, cls: type[Any], options: Options) -> Callable[..., Any]:
    classes.cover_dispatch(cls)
    door: Any = classes.outside(view, cls, options)
    # A generator of API descriptions makes the view from these, and has nothing else of the door.
    given = getattr(view, "initkwargs", None)
    parameters = inspect.signature(cls).parameters.values()
    if given is not None and any(each.kind is each.VAR_KEYWORD for each in parameters):
        inner = given[MARK].options if MARK in given else {}
        door.initkwargs = {**given, MARK: Mark(options={**options, **inner})}
    return cast(Callable[..., Any], door)


def _is_in_class_body(function: Callable[..., Any]) -> bool:
    """Whether a function looks like a method; both kinds of door work where this is wrong."""
    place = function.__qualname__.rpartition(".")[0]
    return place != "" and not place.endswith("<locals>")


def _function(view: Callable[..., Any], options: Options) -> Callable[..., Any]:
    merged = {**options, **(mark_of(view).options or {})}

    @functools.wraps(view)
    def door(*args: Any, **kwargs: Any) -> Any:
        return enter(door, view, merged, args, kwargs)

    async def adoor(*args: Any, **kwargs: Any) -> Any:
        return await aenter(adoor, view, merged, args, kwargs)

    chosen = functools.wraps(view)(adoor) if iscoroutinefunction(view) else door
    own_transactions(chosen)
    leave(chosen, options=merged)
    return chosen


class _Method:
    """A decorated method, which makes the ``dispatch`` of its class cover the handlers."""

    def __init__(self, view: Callable[..., Any], options: Options) -> None:
        self._call = _function(view, options)
        functools.update_wrapper(self, self._call)
        if iscoroutinefunction(view):
            markcoroutinefunction(cast(Any, self))

    def __set_name__(self, owner: type[Any], name: str) -> None:
        # A mixin with a dispatch becomes a view by its other bases.
        if name == "dispatch" or issubclass(owner, View):
            classes.cover_class(owner)

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


def enter(
    door: Handler, view: Handler, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> HttpResponseBase:
    """Call a function view or a method: covered, or in the transactions Django would have made.

    ``door`` bears the aliases that the project keeps out of ATOMIC_REQUESTS.
    """
    request = _request_in(args)
    handler = functools.partial(view, *args, **kwargs)
    instance, function = _behind(request, view, args)
    if is_dispatch(instance, function):
        response: HttpResponseBase = classes.dispatched(instance, request, handler, options)
        return response
    policy = resolve(options)
    if is_entered(request, policy):
        return handler()
    if request.method not in policy.methods:
        with request_transactions(apart_of(door)):
            return handler()
    return classes.cover(request, policy, handler, instance or door, apart_of(door))


async def aenter(
    door: AsyncHandler,
    view: AsyncHandler,
    options: Options,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> HttpResponseBase:
    """Call an async function view or method, covered or not."""
    request = _request_in(args)
    handler = functools.partial(view, *args, **kwargs)
    instance, function = _behind(request, view, args)
    if is_dispatch(instance, function):
        response: HttpResponseBase = await classes.dispatched(instance, request, handler, options)
        return response
    policy = resolve(options)
    if is_entered(request, policy):
        return await handler()
    classes.refuse_atomic_requests(apart_of(door))
    if request.method not in policy.methods:
        return await handler()
    return await acall(request, policy, handler, instance or door)


def _request_in(args: tuple[Any, ...]) -> Any:
    for candidate in args[:2]:
        if isinstance(http_request(candidate), HttpRequest):
            return candidate
    raise TypeError("@idempotent covers views, which take the request first")


def _behind(request: Any, view: Any, args: tuple[Any, ...]) -> tuple[Any, Any]:
    """The instance whose method was decorated, or None, and the function of that method."""
    if args[0] is not request:
        return args[0], view
    if is_rest_framework(request):
        return request.parser_context["view"], view
    bound = bound_method(view)
    return (None, view) if bound is None else (bound.__self__, bound.__func__)
