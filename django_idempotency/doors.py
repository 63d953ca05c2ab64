"""Where a request enters: which view it is for, what that view asked for, and which way it takes.

A door collects options, and covers the one call of the handler, after authentication, permissions
and throttling. On classes the handler is replaced on the view instance, by the class's own
``dispatch``; under ATOMIC_REQUESTS that ``dispatch`` also takes over the transactions Django would
have opened.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .exceptions import IdempotencyError, UnavailableError
from .execution import commits_last, database_of, execute, request_transactions
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


def refuse_async(view: Any, name: str) -> None:
    """Raise ImproperlyConfigured for a coroutine function: async views are not covered yet."""
    if inspect.iscoroutinefunction(view):
        raise ImproperlyConfigured(f"{name} is async, and idempotency covers sync views only.")


class _Apart(set[str]):
    """Every alias, as ``non_atomic_requests``; remembers which of them the project itself named."""

    def __init__(self, apart: Collection[str]) -> None:
        super().__init__(connections)
        self.apart = set(apart)

    def add(self, alias: str) -> None:
        """What ``@transaction.non_atomic_requests`` does to a view that has such a set."""
        self.apart.add(alias)


def apart_of(view: Any) -> Collection[str]:
    """The aliases the project keeps out of a view's ATOMIC_REQUESTS."""
    aliases: Collection[str] = getattr(view, "_non_atomic_requests", ())
    return aliases.apart if isinstance(aliases, _Apart) else aliases


def take_over_transactions(view: Any) -> None:
    """Keep Django from wrapping ``view`` under ATOMIC_REQUESTS; the door does it in its stead."""
    # A fresh set: functools.wraps shares the inner view's.
    view._non_atomic_requests = _Apart(apart_of(view))


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
    request: Any, policy: Policy, handler: Handler, view: Any, apart: Collection[str]
) -> HttpResponseBase:
    """Cover one call; ``view`` is the function or the instance whose door this is."""
    if _is_entered(request):
        return handler()
    if not commits_last(database_of(request, policy)):
        _take_over_callback(request, view)
        return _refuse(request, UnavailableError())
    if is_rest_framework(request):
        return _RestFrameworkCall(request, policy, handler).run(apart)
    return _cover_plain(request, policy, handler, apart)


def _take_over_callback(request: Any, view: Any) -> None:
    """See to it that the next request finds its transactions in our hands.

    Django has opened them around a door that the URL's callback hides, and they would commit in an
    order that could replay over missing rows: nothing may run now.
    """
    match = http_request(request).resolver_match
    if match is None or isinstance(getattr(match.func, "_non_atomic_requests", None), _Apart):
        raise ImproperlyConfigured(
            f"{view!r} is called inside transactions of several databases. Put @idempotent on the"
            " view that the URL names."
        )
    if not inspect.isfunction(view):
        hook(type(view), subclasses=False)
    take_over_transactions(match.func)


def _request_in(args: tuple[Any, ...]) -> Any:
    for candidate in args[:2]:
        if isinstance(http_request(candidate), HttpRequest):
            return candidate
    raise TypeError("@idempotent covers views, which take the request first")


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
    return _cover(
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


def _handler_of(view: Any, request: HttpRequest) -> Handler | None:
    name = (request.method or "").lower()
    handler: Handler | None = getattr(view, name, None) if name in view.http_method_names else None
    return handler


def _layers(
    view: Any, request: HttpRequest, handler: Handler, of_dispatch: Options | None
) -> Iterator[Options | None]:
    """The options of every door this call goes through, the strongest last."""
    attributes = getattr(view, "get_idempotency_options", None)
    yield attributes() if attributes else None
    for cls, options in getattr(request, _OUTER, ()):
        yield options if isinstance(view, cls) else None
    yield getattr(type(view), OPTIONS, None)
    for cls in type(view).__mro__:
        yield getattr(vars(cls).get("dispatch"), OPTIONS, None)
    yield of_dispatch
    yield getattr(handler, OPTIONS, None)


def _protect(view: Any, request: HttpRequest, of_dispatch: Options | None) -> bool:
    """Replace the handler on the view instance by a covered one; False if this is not covered."""
    handler = _handler_of(view, request)
    if handler is None:
        return False
    found = _layers(view, request, handler, of_dispatch)
    layers = [layer for layer in found if layer is not None]
    policy = resolve({name: value for layer in layers for name, value in layer.items()})
    if not layers or request.method not in policy.methods:
        return False
    refuse_async(handler, f"{type(view).__name__}.{(request.method or '').lower()}")
    apart = apart_of(type(view).dispatch)

    @functools.wraps(handler)
    def protected(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        call = functools.partial(handler, request, *args, **kwargs)
        return _cover(request, policy, call, view, apart)

    setattr(view, (request.method or "").lower(), protected)
    return True


@contextmanager
def _transactions(view: Any, *, covered: bool) -> Iterator[None]:
    # In a TestCase, REST framework's set_rollback() must find a transaction that is the request's.
    with request_transactions(apart_of(type(view).dispatch), joined_only=covered):
        yield


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
    with _transactions(view, covered=covered):
        return dispatch()


def refuse_async_handlers(cls: type[Any]) -> None:
    """Raise ImproperlyConfigured for a view class with an async handler."""
    for name in getattr(cls, "http_method_names", ()):
        refuse_async(getattr(cls, name, None), f"{cls.__name__}.{name}")


def hook(cls: type[Any], options: Options | None = None, *, subclasses: bool = True) -> None:
    """Give a view class its own ``dispatch``, which covers the handler; ``options`` are a door's.

    Without options only those calls are covered that have some of their own. A class that is not
    the project's to change keeps its ``subclasses`` as they are.
    """
    if options is not None:
        refuse_async_handlers(cls)
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


def announce(request: HttpRequest, cls: type[Any], options: Options) -> None:
    """Tell the class's dispatch what a door outside of it asks for this request."""
    vars(request).setdefault(_OUTER, []).append((cls, options))
