"""Django Ninja's hook: ``@decorate_view(idempotent)`` below ``@api.post(...)``.

Ninja authenticates and throttles inside the call that its hook decorates. This door does it first,
so that a reply is replayed only to a caller whom the operation would answer.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured

from ..http.requests import state_of


def is_operation(instance: Any) -> bool:
    """Whether a decorated method is the ``run`` of one of Ninja's operations."""
    return any(cls.__module__ == "ninja.operation" for cls in type(instance).__mro__)


def is_callback(view: Any) -> bool:
    """Whether a URL's callback belongs to Ninja, which authenticates inside of it."""
    return getattr(view, "__module__", "") == "ninja.operation"


def _checks_of(operation: Any) -> Callable[[Any], Any]:
    checks: Callable[[Any], Any] | None = getattr(operation, "_run_checks", None)
    if checks is None:
        raise ImproperlyConfigured(f"{operation!r} cannot be asked to authenticate first.")
    return checks


def _check_once(operation: Any, checks: Callable[[Any], Any]) -> None:
    """The operation's ``run`` skips the checks that the door has made for this request.

    Its ``run`` calls them itself, so they are replaced on the operation: it has no other place for
    this, and a throttle would count each request twice.
    """

    def skipping(request: Any) -> Any:
        return None if state_of(request).checked is operation else checks(request)

    async def askipping(request: Any) -> Any:
        return None if state_of(request).checked is operation else await checks(request)

    operation._run_checks = askipping if iscoroutinefunction(checks) else skipping


def checked_first(operation: Any, door: Callable[..., Any]) -> Callable[..., Any]:
    """``door``, entered only by requests that the operation's own checks let pass."""
    checks = _checks_of(operation)
    _check_once(operation, checks)

    @functools.wraps(door)
    def checked(request: Any, *args: Any, **kwargs: Any) -> Any:
        refused = checks(request)
        state_of(request).checked = operation
        return refused or door(request, *args, **kwargs)

    @functools.wraps(door)
    async def achecked(request: Any, *args: Any, **kwargs: Any) -> Any:
        checking: Awaitable[Any] = checks(request)
        refused = await checking
        state_of(request).checked = operation
        return refused or await door(request, *args, **kwargs)

    return achecked if iscoroutinefunction(checks) else checked
