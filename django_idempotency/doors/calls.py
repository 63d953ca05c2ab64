"""One covered call of a handler: its key read, its response rendered, its refusal translated.

Plain Django, its coroutines and REST framework differ here, and only here. :func:`.classes.cover`
comes before, :mod:`~django_idempotency.engine.execution` after.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
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
    # Each request makes its own instance of a class.
    state.view = type(view) if isinstance(view, View) else view


async def acall(
    request: HttpRequest, policy: Policy, handler: AsyncHandler, view: Any
) -> HttpResponseBase:
    """Call a coroutine's handler; it comes to its end although its client may hang up."""

    async def respond() -> HttpResponseBase:
        return await sync_to_async(_rendered)(await handler())

    _note(request, policy, view)
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


def _call_in_rest_framework(
    request: Any, policy: Policy, handler: Handler, apart: Collection[str]
) -> HttpResponseBase:
    """Call the handler; its response is finalised and rendered once, inside the transaction.

    A refusal is raised, for the project's exception handler.
    """
    context = request.parser_context
    view = context["view"]
    finalize: Handler = view.finalize_response
    key: Key | None = None
    final: HttpResponseBase | None = None

    def finalize_once(request: Any, response: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if response is not final:
            response = finalize(request, response, *args, **kwargs)
        return _echo(response, key)

    def respond() -> HttpResponseBase:
        response = handler()
        return _rendered(finalize(request, response, *context["args"], **context["kwargs"]))

    view.finalize_response = finalize_once
    try:
        key = _key_of(request, policy)
        final = execute(request, policy, key, respond, apart=apart)
    except IdempotencyError as error:
        raise IdempotencyAPIException(error) from error
    return final


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
