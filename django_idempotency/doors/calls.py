"""One covered call of a handler: its key read, its response rendered, its refusal translated.

Plain Django, its coroutines and REST framework differ here, and only here. :func:`.classes.cover`
comes before, :mod:`~django_idempotency.engine.execution` after.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import View

from ..durable.envelopes import resumption_of
from ..engine.execution import aexecute, execute
from ..exceptions import IdempotencyError
from ..http.keys import Key, read_key
from ..http.problems import IdempotencyAPIException, problem_response
from ..http.requests import http_request, is_rest_framework, state_of
from ..operation import current_operation
from ..policy import Policy, differences

T = TypeVar("T")
Handler = Callable[..., HttpResponseBase]
AsyncHandler = Callable[..., Awaitable[HttpResponseBase]]

# Django's, and those of django-extra-views for formsets and for several forms.
_FORM_METHODS = ("form_invalid", "formset_invalid", "forms_invalid")

logger = logging.getLogger("django_idempotency")

# Tasks whose caller has left: asyncio itself keeps weak references only.
_orphans: set[asyncio.Task[Any]] = set()


def is_entered(request: Any, policy: Policy) -> bool:
    """Whether a door outside this one covers the request already.

    Raises ImproperlyConfigured if that door has not seen this one, and has other options.
    """
    outer = current_operation()
    if outer is None or outer.request is not http_request(request):
        return False
    covering = state_of(request).policy
    if covering is not None and (ignored := differences(policy, covering)):
        raise ImproperlyConfigured(
            f"The options {', '.join(ignored)} of an inner @idempotent would be ignored: a door"
            " outside of it, which cannot see it, covers the request already. Let the decorators"
            " between them use functools.wraps(), or put the options on the outer door."
        )
    return True


def refuse(request: Any, error: IdempotencyError) -> HttpResponseBase:
    """Answer with a refusal in the way of the request's framework."""
    if is_rest_framework(request):
        raise IdempotencyAPIException(error) from error
    return problem_response(request, error, is_form=False)


def call(
    request: Any, policy: Policy, handler: Handler, view: Any, apart: Collection[str]
) -> HttpResponseBase:
    """Call a handler in the way of the request's framework, at most once for its key."""
    _note(request, policy, view)
    if is_rest_framework(request):
        return _call_in_rest_framework(request, policy, handler, apart)
    return _call_plainly(request, policy, handler, apart)


def _note(request: Any, policy: Policy, view: Any) -> None:
    state = state_of(request)
    state.policy = policy
    state.view = view
    if isinstance(view, View):
        # Each request makes its own instance of a class.
        state.view = type(view)
        _watch_forms(view)


def _watch_forms(view: View) -> None:
    """What the view's ``form_invalid`` returns is no outcome, unless the method says otherwise.

    The page alone could not show it: after an order it may hold another form with errors.
    """
    for name in _FORM_METHODS:
        if method := getattr(view, name, None):
            setattr(view, name, partial(_released, method))


def _released(method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    if operation := current_operation():
        operation.release()
    return method(*args, **kwargs)


async def acall(
    request: HttpRequest, policy: Policy, handler: AsyncHandler, view: Any
) -> HttpResponseBase:
    """Call a coroutine's handler; it comes to its end although its client may hang up."""
    _note(request, policy, view)
    if is_rest_framework(request):
        return await _acall_in_rest_framework(request, policy, handler)

    async def respond() -> HttpResponseBase:
        return await sync_to_async(_rendered)(await handler())

    key = None
    try:
        key = await sync_to_async(_key_of)(request, policy)
        response = await _to_its_end(aexecute(request, policy, key, respond))
    except IdempotencyError as error:
        return await sync_to_async(_refusal)(request, error, key)
    return _echo(response, key)


def _call_plainly(
    request: HttpRequest, policy: Policy, handler: Handler, apart: Collection[str]
) -> HttpResponseBase:
    key = None
    try:
        key = _key_of(request, policy)
        response = execute(request, policy, key, lambda: _rendered(handler()), apart=apart)
    except IdempotencyError as error:
        return _refusal(request, error, key)
    return _echo(response, key)


class _Finalized:
    """REST framework's response, finalised and rendered once, inside the transaction."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._context = request.parser_context
        self._finalize: Handler = self._context["view"].finalize_response
        self._context["view"].finalize_response = self._once
        self.key: Key | None = None
        self.response: HttpResponseBase | None = None

    def made_of(self, response: HttpResponseBase) -> HttpResponseBase:
        """The handler's response, ready to be saved."""
        args, kwargs = self._context["args"], self._context["kwargs"]
        return _rendered(self._finalize(self._request, response, *args, **kwargs))

    def _once(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if response is not self.response:
            response = self._finalize(request, response, *args, **kwargs)
        return _echo(response, self.key)


def _call_in_rest_framework(
    request: Any, policy: Policy, handler: Handler, apart: Collection[str]
) -> HttpResponseBase:
    """Call the handler; a refusal is raised, for the project's exception handler."""
    final = _Finalized(request)
    try:
        final.key = _key_of(request, policy)
        final.response = execute(
            request, policy, final.key, lambda: final.made_of(handler()), apart=apart
        )
    except IdempotencyError as error:
        raise IdempotencyAPIException(error) from error
    return final.response


async def _acall_in_rest_framework(
    request: Any, policy: Policy, handler: AsyncHandler
) -> HttpResponseBase:
    """The same for a coroutine, as adrf makes REST framework's views."""
    final = _Finalized(request)

    async def respond() -> HttpResponseBase:
        return await sync_to_async(final.made_of)(await handler())

    try:
        final.key = await sync_to_async(_key_of)(request, policy)
        final.response = await _to_its_end(aexecute(request, policy, final.key, respond))
    except IdempotencyError as error:
        raise IdempotencyAPIException(error) from error
    return final.response


def _key_of(request: HttpRequest, policy: Policy) -> Key | None:
    resumed = resumption_of(request)
    return Key(resumed.intent.key) if resumed else read_key(request, policy)


def _rendered(response: HttpResponseBase) -> HttpResponseBase:
    render = getattr(response, "render", None)
    if render is None or getattr(response, "is_rendered", False):
        return response
    rendered: HttpResponseBase = render()
    return rendered


def _refusal(request: HttpRequest, error: IdempotencyError, key: Key | None) -> HttpResponseBase:
    is_form = key is not None and key.from_field
    return _echo(problem_response(request, error, is_form=is_form), key)


def _echo(response: HttpResponseBase, key: Key | None) -> HttpResponseBase:
    for name, line in key.headers if key else ():
        response[name] = line
    return response


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns; if the caller is cancelled, ``work`` goes on without it."""
    left = False

    async def whole() -> T:
        try:
            return await work
        finally:
            if left:
                # Django closes connections at the end of the request, which has passed.
                await sync_to_async(connections.close_all)()

    task = asyncio.create_task(whole())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        left = True
        _orphans.add(task)
        task.add_done_callback(_end_of_orphan)
        raise


def _end_of_orphan(task: asyncio.Task[Any]) -> None:
    _orphans.discard(task)
    if not task.cancelled() and (error := task.exception()):
        logger.error("a request whose client had gone failed", exc_info=error)
