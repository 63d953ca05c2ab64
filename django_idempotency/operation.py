"""What a running view may ask of its own operation, and tell it."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.http import HttpRequest

from .durable.checkpoints import Checkpoints
from .durable.definitions import Definition, Errors, Function, RetryPolicy, names_of
from .durable.steps import Block, Steps, downstream_key
from .http.responses import Verdict
from .models import StepKind
from .protocol.claims import Claim
from .storage.values import Intent

_running: ContextVar["Operation | None"] = ContextVar("idempotent_operation", default=None)


def _plain(function: Function) -> Function:
    return async_to_sync(function) if iscoroutinefunction(function) else function


class Operation:
    """The operation a covered request stands for: ``request.idempotency`` in the view.

    It exists without a key too; ``key``, ``scope`` and ``record_id`` are None then, and steps run
    plainly. ``using`` is the database of the record and of the steps, and ``inside`` says that all
    of the view is one transaction.
    """

    def __init__(
        self,
        request: HttpRequest,
        using: str,
        intent: Intent | None = None,
        claim: Claim | None = None,
        *,
        inside: bool = True,
    ) -> None:
        self.request = request
        self.intent = intent
        self.key = intent.key if intent else None
        self.scope = intent.scope if intent else None
        self.record_id = intent.id if intent else None
        #: 1 for the first attempt; attempts that answered without an outcome do not count.
        self.attempt = claim.terms.attempts if claim else 1
        self.wish: Verdict | None = None
        # What steps need is made when the first one is asked for: most operations have none.
        self._using = using
        self._claim = claim
        self._inside = inside
        self._began = time.monotonic()

    @cached_property
    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(self._using, self._claim, inside=self._inside, since=self._began)

    @cached_property
    def _steps(self) -> Steps:
        return Steps(self._using, self.intent, self._checkpoints)

    def release(self) -> None:
        """The response will be no outcome: the key is freed, the writes stay."""
        self.wish = Verdict.RELEASE

    def rollback(self) -> None:
        """The writes will be undone and the key freed, whatever the view returns."""
        self.wish = Verdict.ROLL_BACK

    def keep(self) -> None:
        """The writes will be committed and the response kept, whatever its status."""
        self.wish = Verdict.KEEP

    def downstream_key(self, name: str) -> str:
        """A key for another service's idempotency, as a UUID's text.

        It depends on scope, key, fingerprint and ``name`` only, so that every attempt sends the
        same. Raises ValueError where the request has no key.
        """
        if self.intent is None:
            raise ValueError("a request without an idempotency key has no downstream keys")
        return downstream_key(self.intent, name)

    def heartbeat(self) -> None:
        """The lease is renewed; every step and call renews it, too.

        Raises TransitionError when the claim was lost, which becomes a 409.
        """
        self._checkpoints.beat()

    def step(
        self,
        name: str,
        function: Function,
        /,
        *args: Any,
        key: object = None,
        aliases: tuple[str, ...] = (),
        fatal: type[BaseException] | Errors = (),
        undo: Function | None = None,
        **kwargs: Any,
    ) -> Any:
        """``function(*args, **kwargs)`` has run exactly once, and its rows are committed.

        Its result, JSON of at most ``IDEMPOTENCY_MAX_STEP_BYTES``, commits with them; a later
        attempt gets it without running the function. ``key`` tells the rounds of a loop apart, and
        ``aliases`` are former names, the oldest last. After an exception of ``fatal`` it never runs
        again: the undos of what was done run in reverse, then OperationFailedError is raised.
        ``undo(result)`` is how this step is taken back.

        Raises StepDriftError when it was recorded with other arguments, TypeError for what is not
        JSON, ValueError for a name that was used, and what the function raises.
        """
        return self._steps.step(
            Definition(
                names=names_of(name, key, aliases),
                kind=StepKind.STEP,
                function=_plain(function),
                args=args,
                kwargs=kwargs,
                fatal=fatal if isinstance(fatal, tuple) else (fatal,),
                undo=undo and _plain(undo),
            )
        )

    def atomic(
        self, name: str, *, key: object = None, aliases: tuple[str, ...] = ()
    ) -> AbstractContextManager[Block]:
        """The same as a block: it does its work unless ``recorded``, and sets ``result``.

        ::

            with op.atomic("ride") as step:
                if not step.recorded:
                    step.result = Ride.objects.create(...).pk
        """
        names = names_of(name, key, aliases)
        return self._steps.block(Definition(names=names, kind=StepKind.STEP, function=lambda: None))

    def call(
        self,
        name: str,
        function: Function,
        /,
        *args: Any,
        key: object = None,
        aliases: tuple[str, ...] = (),
        retry: RetryPolicy | None = None,
        fatal: type[BaseException] | Errors = (),
        timeout: timedelta | None = None,
        undo: Function | None = None,
        semantics: Literal["at_least_once", "at_most_once"] = "at_least_once",
        reconcile: Function | None = None,
        **kwargs: Any,
    ) -> Any:
        """Another service has done ``function(*args, idempotency_key=..., **kwargs)``.

        At least once, always with the same ``idempotency_key``, outside of any transaction; its
        result is recorded as that of a step is. ``retry`` says how often it is tried in one
        request; then OperationPendingError is raised (503), and the next attempt goes on.
        ``timeout`` is handed on in seconds, and the lease covers it. ``undo(result,
        idempotency_key=...)`` takes it back.

        ``semantics="at_most_once"`` makes it once and never again: when an attempt ended in it,
        ``reconcile(*args, idempotency_key=..., **kwargs)`` is asked. It returns the result, or
        raises NotDoneError when the call had no effect and may be made; without it, or when it
        raises anything else, OutcomeUnknownError is raised (409).

        Raises TransactionManagementError inside a transaction, and what :meth:`step` raises.
        """
        at_most_once = semantics == "at_most_once"
        if semantics not in ("at_least_once", "at_most_once"):
            raise ValueError(f"semantics is at_least_once or at_most_once, not {semantics!r}")
        if at_most_once and retry:
            raise ValueError("a call that is made at most once has no retry")
        return self._steps.call(
            Definition(
                names=names_of(name, key, aliases),
                kind=StepKind.CALL,
                function=_plain(function),
                args=args,
                kwargs=kwargs,
                fatal=fatal if isinstance(fatal, tuple) else (fatal,),
                undo=undo and _plain(undo),
                retry=retry,
                timeout=timeout,
                at_most_once=at_most_once,
                reconcile=reconcile and _plain(reconcile),
            )
        )

    async def astep(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`step` for a coroutine; the functions may be coroutine functions, too."""
        return await sync_to_async(self.step)(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`call` for a coroutine; the functions may be coroutine functions, too."""
        return await sync_to_async(self.call)(*args, **kwargs)

    async def aheartbeat(self) -> None:
        """:meth:`heartbeat` for a coroutine."""
        await sync_to_async(self.heartbeat)()


def current_operation() -> Operation | None:
    """The operation whose view is running in this context, or None."""
    return _running.get()


@contextmanager
def running(operation: Operation) -> Iterator[None]:
    """Make ``operation`` the current one, here and on its request."""
    operation.request.idempotency = operation  # type: ignore[attr-defined]
    before = _running.set(operation)
    try:
        yield
    finally:
        _running.reset(before)
