"""Where a request enters: which view it is for, what that view asked for, and which way it takes.

A door collects options, and covers the one call of the handler, after authentication, permissions
and throttling. On classes the handler is replaced on the view instance, by the class's own
``dispatch``; under ATOMIC_REQUESTS that ``dispatch`` also takes over the transactions Django would
have opened.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from inspect import iscoroutinefunction
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .exceptions import IdempotencyError, UnavailableError
from .execution import execute, lacks_request_transaction, request_transactions
from .http import http_request, is_rest_framework
from .keys import Key, read_key
from .operation import current_operation
from .policy import Options, Policy, resolve
from .problems import IdempotencyAPIException, problem_response

Handler = Callable[..., HttpResponseBase]

#: Where a door leaves its options: on a function, a method or a class.
OPTIONS = "_idempotency_options"
_OUTER = "_idempotency_outer"
_HOOKED = "_idempotency_hooked"
_ENTERED = "_idempotency_entered"
_APART = "_idempotency_apart"


def refuse_async(view: Any, name: str) -> None:
    """Raise ImproperlyConfigured for a coroutine function: async views are not covered yet."""
    if iscoroutinefunction(view):
        raise ImproperlyConfigured(f"{name} is async, and idempotency covers sync views only.")


def take_over_transactions(view: Any) -> None:
    """Keep Django from wrapping ``view`` under ATOMIC_REQUESTS; the door does it in its stead.

    What the project itself keeps apart (``non_atomic_requests``) stays apart.
    """
    if not hasattr(view, _APART):
        setattr(view, _APART, frozenset(getattr(view, "_non_atomic_requests", ())))
    # A fresh set: functools.wraps shares the inner view's.
    view._non_atomic_requests = set(connections)


def apart_of(view: Any) -> Collection[str]:
    """The aliases a view keeps out of ATOMIC_REQUESTS."""
    aliases: Collection[str] = getattr(view, _APART, ())
    return aliases


def _rendered(response: HttpResponseBase) -> HttpResponseBase:
    render = getattr(response, "render", None)
    if render is None or getattr(response, "is_rendered", False):
        return response
    rendered: HttpResponseBase = render()
    return rendered


def _echo(response: HttpResponseBase, policy: Policy, key: Key | None) -> None:
    if key is not None and key.header is not None:
        response[policy.header] = key.header


def _cover_plain(
    request: HttpRequest, policy: Policy, handler: Handler, apart: Collection[str]
) -> HttpResponseBase:
    key = None
    try:
        key = read_key(request, policy)
        response = execute(request, policy, key, lambda: _rendered(handler()), apart=apart)
    except IdempotencyError as error:
        is_form = key is not None and key.from_field
        response = problem_response(request, error, is_form=is_form)
    _echo(response, policy, key)
    return response


class _RestFrameworkCall:
    """One covered call in REST framework: finalised and rendered once, inside the transaction."""

    def __init__(self, request: Any, policy: Policy, handler: Handler) -> None:
        self._request = request
        self._policy = policy
        self._handler = handler
        self._context = request.parser_context
        self._finalize = self._context["view"].finalize_response
        self._key: Key | None = None
        self._final: HttpResponseBase | None = None

    def run(self, apart: Collection[str]) -> HttpResponseBase:
        self._context["view"].finalize_response = self._finalize_once
        try:
            self._key = read_key(self._request, self._policy)
            self._final = execute(
                self._request, self._policy, self._key, self._respond, apart=apart
            )
        except IdempotencyError as error:
            raise IdempotencyAPIException(error) from error
        return self._final

    def _respond(self) -> HttpResponseBase:
        response = self._handler()
        args, kwargs = self._context["args"], self._context["kwargs"]
        return _rendered(self._finalize(self._request, response, *args, **kwargs))

    def _finalize_once(
        self, request: Any, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        if response is not self._final:
            response = self._finalize(request, response, *args, **kwargs)
        _echo(response, self._policy, self._key)
        return response


def _is_entered(request: Any) -> bool:
    """Whether a door outside this one covers the request already."""
    outer = current_operation()
    return outer is not None and outer.request is http_request(request)


def _refuse(request: Any, error: IdempotencyError) -> HttpResponseBase:
    if is_rest_framework(request):
        raise IdempotencyAPIException(error) from error
    return problem_response(request, error, is_form=False)


def _cover(
    request: Any, policy: Policy, handler: Handler, apart: Collection[str]
) -> HttpResponseBase:
    if _is_entered(request):
        return handler()
    if is_rest_framework(request):
        return _RestFrameworkCall(request, policy, handler).run(apart)
    return _cover_plain(request, policy, handler, apart)


def _request_in(args: tuple[Any, ...]) -> Any:
    for candidate in args[:2]:
        if isinstance(http_request(candidate), HttpRequest):
            return candidate
    raise TypeError("@idempotent covers views, which take the request first")


def _is_inside_request_transaction(alias: str) -> bool:
    connection = connections[alias]
    atomic_request = connection.settings_dict["ATOMIC_REQUESTS"] and connection.in_atomic_block
    return bool(atomic_request) and not lacks_request_transaction(connection)


def _instance_for(request: Any, view: Handler) -> Any:
    """The view instance behind a function door that its class knows nothing of."""
    if is_rest_framework(request):
        return request.parser_context["view"]
    return getattr(getattr(view, "func", None), "__self__", None)


def _take_over_from_now_on(
    request: Any, view: Handler, options: Options, args: tuple[Any, ...]
) -> bool:
    """Under a door the URL's callback hides, Django has opened its transactions already.

    The callback is found with the first request, which joins them. Several of them commit in an
    order that could replay over missing rows: False says that nothing may run now, and the retry
    will find the door in its place.
    """
    joined = [alias for alias in connections if _is_inside_request_transaction(alias)]
    instance = _instance_for(request, view)
    match = http_request(request).resolver_match
    if not joined or instance is None or match is None:
        return len(joined) < 2
    is_only_handler = args[0] is request and not isinstance(view, functools.partial)
    hook(type(instance), options if is_only_handler else None)
    take_over_transactions(match.func)
    return len(joined) < 2


def enter(
    view: Handler,
    options: Options,
    apart: Collection[str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> HttpResponseBase:
    """Call a function view or a method: covered, or in the transactions Django would have made."""
    request = _request_in(args)
    policy = resolve(options)
    if request.method not in policy.methods:
        with request_transactions(apart):
            return view(*args, **kwargs)

    if not _is_entered(request) and not _take_over_from_now_on(request, view, options, args):
        return _refuse(request, UnavailableError())
    return _cover(request, policy, functools.partial(view, *args, **kwargs), apart)


def _handler_of(view: Any, request: HttpRequest) -> Handler | None:
    name = (request.method or "").lower()
    handler: Handler | None = getattr(view, name, None) if name in view.http_method_names else None
    return handler


def _layers(view: Any, request: HttpRequest, handler: Handler) -> Iterator[Options | None]:
    """The options of every door this call goes through, the strongest last."""
    attributes = getattr(view, "idempotency_attributes", None)
    yield attributes() if attributes else None
    for cls, options in getattr(request, _OUTER, ()):
        yield options if isinstance(view, cls) else None
    yield getattr(type(view), OPTIONS, None)
    yield getattr(handler, OPTIONS, None)


def _protect(view: Any, request: HttpRequest, extra: Options | None) -> bool:
    """Replace the handler on the view instance by a covered one; False if this is not covered."""
    handler = _handler_of(view, request)
    if handler is None:
        return False
    layers = [layer for layer in (*_layers(view, request, handler), extra) if layer is not None]
    policy = resolve({name: value for layer in layers for name, value in layer.items()})
    if not layers or request.method not in policy.methods:
        return False
    refuse_async(handler, f"{type(view).__name__}.{(request.method or '').lower()}")
    apart = apart_of(type(view).dispatch)

    @functools.wraps(handler)
    def protected(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _cover(request, policy, functools.partial(handler, request, *args, **kwargs), apart)

    setattr(view, (request.method or "").lower(), protected)
    return True


@contextmanager
def _transactions(view: Any, *, covered: bool) -> Iterator[None]:
    # In a TestCase, REST framework's set_rollback() must find a transaction that is the request's.
    with request_transactions(apart_of(type(view).dispatch), joined_only=covered):
        yield


def dispatched(
    view: Any, request: HttpRequest, dispatch: Callable[[], Any], extra: Options | None = None
) -> Any:
    """What ``dispatch()`` returns for this view instance, its handler covered if it is to be.

    ``extra`` are the options of a door on ``dispatch`` itself.
    """
    if vars(view).get(_ENTERED) is request:
        return dispatch()
    setattr(view, _ENTERED, request)
    covered = _protect(view, request, extra)
    with _transactions(view, covered=covered):
        return dispatch()


def hook(cls: type[Any], options: Options | None = None) -> None:
    """Give a view class its own ``dispatch``, which covers the handler; ``options`` are a door's.

    Without options only those methods are covered that have some of their own.
    """
    for name in getattr(cls, "http_method_names", ()):
        refuse_async(getattr(cls, name, None), f"{cls.__name__}.{name}")
    if options is not None:
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


def announce(request: HttpRequest, cls: type[Any], options: Options) -> None:
    """Tell the class's dispatch what a door outside of it asks for this request."""
    vars(request).setdefault(_OUTER, []).append((cls, options))
