"""View classes: the handler is covered, after authentication, permissions and throttles.

The class's ``dispatch`` replaces the handler on the view instance by a covered one, and opens the
transactions of ATOMIC_REQUESTS around requests that are not covered. The mixin overrides
``dispatch`` for that; every other class gets a new one (:func:`cover_dispatch`). Doors around a
callback are announced on the request, where the dispatch finds them.
"""

import functools
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import View

from ..engine.atomic_requests import (
    apart_of,
    commits_last,
    own_transactions,
    owns_transactions,
    request_transactions,
)
from ..engine.execution import database_of
from ..exceptions import UnavailableError
from ..http.requests import OuterDoor, http_request, state_of
from ..policy import Options, Policy
from .calls import Handler, acall, call, is_entered, refuse
from .marks import leave, mark_of, unwrapped
from .policies import handler_of, policy_of

_FRAMEWORKS = ("django.", "rest_framework.", "django_idempotency.")


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
    """Raise what Django raises for an async view under ATOMIC_REQUESTS, which the door now owns."""
    if any(connections[a].settings_dict["ATOMIC_REQUESTS"] for a in connections if a not in apart):
        raise RuntimeError(
            "You cannot use ATOMIC_REQUESTS with async views. Put @transaction.non_atomic_requests"
            " on the view."
        )


def cover_class(cls: type[Any], options: Options | None = None) -> None:
    """The handlers of a class and of its subclasses are covered; ``options`` are a door's.

    Without options only those calls are covered that have some of their own.
    """
    if options is not None:
        refuse_atomic_handlers(cls, options)
        leave(cls, options={**(mark_of(cls).options or {}), **options})
    cover_dispatch(cls)
    if not mark_of(cls).subclasses:
        _cover_subclasses(cls)


def cover_dispatch(cls: type[Any]) -> None:
    """A class has a ``dispatch`` that covers the handlers of its instances.

    It replaces the class's attribute. If the class is not the project's (a door is around what its
    ``as_view()`` returned, or the middleware is), no other place is both after authentication and
    before the handler. If the class has the mixin and a ``dispatch`` of its own, that would run
    outside of the mixin's, without the transaction that ATOMIC_REQUESTS promises for all of it.
    """
    if mark_of(cls).dispatch in unwrapped(cls.dispatch):
        return
    own = vars(cls).get("dispatch")

    @functools.wraps(cls.dispatch)
    def dispatch(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        inner = own.__get__(self) if own else super(cls, self).dispatch
        return dispatched(self, request, functools.partial(inner, request, *args, **kwargs))

    # as_view() copies the mark to the callback, where Django looks for it.
    own_transactions(dispatch)
    cls.dispatch = dispatch
    leave(cls, dispatch=dispatch)


def _cover_subclasses(cls: type[Any]) -> None:
    """A subclass is covered although it defines ``dispatch`` itself, or gets another base's."""
    own = vars(cls).get("__init_subclass__")

    def covering(sub: type[Any], /, **kwargs: Any) -> None:
        inner = own.__get__(None, sub) if own else super(cls, sub).__init_subclass__
        inner(**kwargs)
        cover_dispatch(sub)

    covering_subclasses: Any = classmethod(covering)
    cls.__init_subclass__ = covering_subclasses
    leave(cls, subclasses=True)


def outside(view: Any, cls: type[Any], options: Options) -> Callable[..., Any]:
    """A door around the callback of a class, which announces itself to the class's dispatch."""

    @functools.wraps(view)
    def door(request: Any, *args: Any, **kwargs: Any) -> Any:
        announce(request, cls, options, door)
        return view(request, *args, **kwargs)

    if iscoroutinefunction(view):
        markcoroutinefunction(door)
    own_transactions(door)
    return door


def announce(request: HttpRequest, cls: type[Any], options: Options, door: Any) -> None:
    """The class's dispatch finds on the request what a door around its callback asks for."""
    state_of(request).outer_doors.append(OuterDoor(cls, options, apart_of(door)))


def dispatched(
    view: Any, request: HttpRequest, dispatch: Callable[[], Any], of_dispatch: Options | None = None
) -> Any:
    """What ``dispatch()`` returns for this view instance, its handler covered if it is to be.

    ``of_dispatch`` are the options of a door on ``dispatch`` itself.
    """
    state = state_of(request)
    # A method called dispatch may belong to a class that is no view: its own door covers it.
    if state.entered is view or not isinstance(view, View):
        return dispatch()
    outer = [door for door in state.outer_doors if isinstance(view, door.cls)]
    apart = frozenset(apart_of(type(view).dispatch)).union(*(door.apart for door in outer))
    method = request.method or ""
    policy = policy_of(view, method, [door.options for door in outer], of_dispatch)
    handler = handler_of(view, method)
    is_async = _is_async(cast(Hashable, type(view)))
    if is_async:
        refuse_atomic_requests(apart)
    if policy is not None and handler is None and _answers_itself(cast(Hashable, type(view))):
        state.entered = view
        # The only place to stand: what authenticates in there comes after the claim.
        if is_async:
            return acall(request, policy, dispatch, view)
        return cover(request, policy, dispatch, view, apart)
    if policy is not None and handler is not None:
        state.entered = view
        _replace_handler(view, method, _covered(view, handler, policy, apart))
    if is_async:
        return dispatch()
    # In a TestCase, REST framework's set_rollback() must find a transaction that is the request's.
    with request_transactions(apart, joined_only=state.entered is view):
        return dispatch()


def _replace_handler(view: Any, method: str, covered: Callable[..., Any]) -> None:
    """The view instance has a covered handler; raises ImproperlyConfigured for a property."""
    try:
        setattr(view, method.lower(), covered)
    except AttributeError as error:
        raise ImproperlyConfigured(
            f"{type(view).__qualname__}.{method.lower()} cannot be covered, because it cannot be"
            " replaced on an instance: make it a method."
        ) from error


def _covered(view: Any, handler: Any, policy: Policy, apart: Collection[str]) -> Callable[..., Any]:
    def covered(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        partial = functools.partial(handler, request, *args, **kwargs)
        return cover(request, policy, partial, view, apart)

    # adrf looks at the handler before it calls it.
    async def acovered(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        partial = functools.partial(handler, request, *args, **kwargs)
        if is_entered(request, policy):
            entered: HttpResponseBase = await partial()
            return entered
        return await acall(request, policy, partial, view)

    return acovered if iscoroutinefunction(handler) else covered


@functools.lru_cache(1024)
def _is_async(cls: Hashable) -> bool:
    """Asked for each request; Django looks at every handler for the answer."""
    dispatches = (function for name, function in _answering(cls) if name == "dispatch")
    return bool(getattr(cls, "view_is_async", False)) or any(map(iscoroutinefunction, dispatches))


@functools.lru_cache(1024)
def _answers_itself(cls: Hashable) -> bool:
    """Whether a class may answer a method without a handler; the frameworks' own answer 405."""
    return any(
        not getattr(function, "__module__", "").startswith(_FRAMEWORKS)
        for _, function in _answering(cls)
    )


def _answering(cls: Any) -> Iterator[tuple[str, Any]]:
    """What runs where a class has no handler, below all decorators."""
    for base in cls.__mro__:
        for name in ("dispatch", "http_method_not_allowed"):
            if name in vars(base):
                *_, function = unwrapped(vars(base)[name])
                yield name, function


def cover(
    request: Any, policy: Policy, handler: Handler, view: Any, apart: Collection[str]
) -> HttpResponseBase:
    """Cover one call; ``view`` is the function or the instance whose door this is."""
    if is_entered(request, policy):
        return handler()
    if not commits_last(database_of(request, policy)):
        _own_callback(request, view)
        return refuse(request, UnavailableError())
    return call(request, policy, handler, view, apart)


def _own_callback(request: Any, view: Any) -> None:
    """Django opens no transactions around the next request for this URL.

    It has opened them around a door that the URL's callback hides, and they would commit in an
    order that could replay over missing rows: nothing may run now.
    """
    match = http_request(request).resolver_match
    if match is None or owns_transactions(match.func):
        raise ImproperlyConfigured(
            f"{view!r} is called inside transactions of several databases. Put @idempotent on the"
            " view that the URL names."
        )
    if isinstance(view, View):
        cover_dispatch(type(view))
    own_transactions(match.func)
