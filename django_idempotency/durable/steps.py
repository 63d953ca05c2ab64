"""Runs the steps of one attempt: a recorded step is never run again, an open one is.

What is guaranteed, sentence by sentence:

- The rows of a step and its checkpoint commit in one transaction: exactly once.
- A call is made outside of any transaction, and recorded after it: at least once, always with the
  same downstream key; or at most once, and its outcome may then be unknown.
- After a fatal failure the undos of what was done run in reverse, as calls or steps of their own.
"""

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

from django.db import DatabaseError, connections, transaction

from .. import conf
from ..codecs import UndecodableError, encode
from ..exceptions import (
    NotDoneError,
    OperationFailedError,
    OperationPendingError,
    OutcomeUnknownError,
    RetriesExhaustedError,
    StepDriftError,
    TransitionError,
    UnavailableError,
)
from ..models import StepKind, StepStatus
from ..storage.records import RowLockedError
from ..storage.steps import Entry
from ..storage.transactions import own_blocks
from ..storage.values import Intent
from .checkpoints import Checkpoints
from .definitions import (
    Definition,
    Function,
    digest_of,
    result_of,
    result_to_json,
)

logger = logging.getLogger("django_idempotency.steps")

_OVER = (StepStatus.COMPLETED, StepStatus.FAILED)
_IN_DOUBT = (StepStatus.STARTED, StepStatus.UNKNOWN)


class _NotMadeError(BaseException):
    """A call was not made, for the reason that is its cause. No Retry and no view catches it."""


@dataclass(slots=True)
class Block:
    """A step that is a ``with`` block: it works and sets ``result``, unless ``recorded``."""

    recorded: bool = False
    result: Any = None


@dataclass(slots=True)
class _Run:
    """One step in this attempt; ``before`` is what earlier attempts recorded of it."""

    step: Definition
    digest: bytes
    #: The downstream key, by which another service recognizes the step.
    key: str
    before: Entry | None
    tries: int = 0
    began: float = field(default_factory=time.monotonic)

    def call(self) -> Any:
        """Make the call, as one more try."""
        self.tries += 1
        extra: dict[str, Any] = {"idempotency_key": self.key}
        if self.step.timeout is not None and self.step.kind is not StepKind.UNDO:
            extra["timeout"] = self.step.timeout.total_seconds()
        return self.step.run(**extra)

    def entry(self, status: StepStatus, **details: Any) -> Entry:
        """What to record of the step now."""
        return Entry(
            self.before.name if self.before else self.step.name,
            self.step.kind,
            status,
            (self.before.attempt if self.before else 0) + self.tries,
            self.digest,
            took=timedelta(seconds=time.monotonic() - self.began),
            **details,
        )

    def completed(self, result: Any) -> tuple[Entry, Any]:
        """What to record of the finished step, and its result as later attempts will read it."""
        text = result_to_json(self.step.name, result)
        output, codec = encode(text)
        return self.entry(StepStatus.COMPLETED, output=output, codec=codec), json.loads(text)


def downstream_key(intent: Intent, name: str) -> str:
    """A key for another service, the same in every attempt."""
    sha = hashlib.sha256()
    for part in (intent.scope.encode(), intent.key.encode(), intent.fingerprint, name.encode()):
        sha.update(len(part).to_bytes(4, "big") + part)
    return str(uuid.UUID(bytes=sha.digest()[:16], version=5))


class Steps:
    """The steps of one attempt; a request without a key has no ``intent``, and records nothing."""

    def __init__(self, using: str, intent: Intent | None, checkpoints: Checkpoints) -> None:
        self._using = using
        self._intent = intent
        self._checkpoints = checkpoints
        self._used: set[str] = set()
        self._done: list[tuple[Definition, Function, Any]] = []

    def step(self, step: Definition) -> Any:
        """The result of a step, which commits with its checkpoint."""
        with self.block(step) as block:
            if not block.recorded:
                block.result = step.run()
        return block.result

    @contextmanager
    def block(self, step: Definition) -> Iterator[Block]:
        """A step that is a ``with`` block, in one transaction with its checkpoint."""
        run = self._begin(step)
        if run.before and run.before.status in _OVER:
            yield Block(recorded=True, result=self._recall(step, run.before))
            return
        block = Block()
        with self._recording_failures(run):
            run.tries = 1
            with self._checkpoints.transaction(step.name) as mark:
                yield block
                entry, block.result = run.completed(block.result)
                self._checkpoints.write(entry, mark=mark)
        self._remember(step, entry, block.result)

    def call(self, step: Definition) -> Any:
        """The result of a call, made outside of any transaction and recorded after it."""
        self._refuse_transaction(step)
        run = self._begin(step)
        if run.before and run.before.status in _OVER:
            return self._recall(step, run.before)
        return self._at_most_once(run) if step.at_most_once else self._at_least_once(run)

    def _begin(self, step: Definition) -> _Run:
        if step.name in self._used:
            raise ValueError(f"step {step.name!r} was done before in this attempt: loops need key=")
        digest = digest_of(step.name, step.args, step.kwargs)
        run = _Run(step, digest, self._key_of(step), self._checkpoints.find(step.names))
        if run.before and run.before.status is not StepStatus.RETRYING:
            self._refuse_drift(run, run.before)
        return run

    def _refuse_drift(self, run: _Run, before: Entry) -> None:
        if before.digest == run.digest:
            return
        text = f"step {run.step.name!r} was recorded with other arguments"
        if conf.step_drift() != "warn":
            raise StepDriftError(text)
        logger.warning("%s; what is recorded counts", text)

    def _recall(self, step: Definition, entry: Entry) -> Any:
        if entry.status is StepStatus.FAILED:
            self._undo()
            raise OperationFailedError(step.name, entry.error)
        try:
            result = result_of(entry.output, entry.codec)
        except UndecodableError as error:
            logger.error("step %r is %s; nothing runs", step.name, error, exc_info=True)
            raise UnavailableError from error
        self._remember(step, entry, result)
        return result

    def _remember(self, step: Definition, entry: Entry, result: Any) -> None:
        self._checkpoints.remember(entry)
        self._used.add(step.name)
        if step.undo:
            self._done.append((step, step.undo, result))

    def _record(self, run: _Run, entry: Entry, result: Any) -> Any:
        self._checkpoints.record(entry)
        self._remember(run.step, entry, result)
        return result

    def _refuse_transaction(self, step: Definition) -> None:
        if own_blocks(connections[self._using]):
            raise transaction.TransactionManagementError(
                f"call {step.name!r} must not be made inside a transaction, which would stay open"
                " as long as it takes: protect the view with atomic=False"
            )

    def _key_of(self, step: Definition) -> str:
        intent = self._intent
        return downstream_key(intent, step.oldest_name) if intent else str(uuid.uuid4())

    def _call_within_lease(self, run: _Run) -> Any:
        """Make the call; before that the lease is made to cover it."""
        try:
            self._checkpoints.ensure_lease(run.step.timeout or timedelta())
        except Exception as error:
            raise _NotMadeError from error
        return run.call()

    def _at_least_once(self, run: _Run) -> Any:
        call, retry = partial(self._call_within_lease, run), run.step.retry
        never = (*run.step.fatal, _NotMadeError)
        try:
            with self._recording_failures(run):
                result = retry.run(call, never=never) if retry else call()
        except _NotMadeError as error:
            raise error.__cause__ or error from None
        return self._record_made(run, result)

    def _record_made(self, run: _Run, result: Any) -> Any:
        """Record a call that was made; a result that cannot be recorded counts as a failure."""
        try:
            entry, result = run.completed(result)
        except (TypeError, ValueError) as error:
            self._record_failure(run, error)
            raise
        return self._record(run, entry, result)

    @contextmanager
    def _recording_failures(self, run: _Run) -> Iterator[None]:
        """Record a failure of the step in the block; raises it, or what follows from it."""
        try:
            yield
        except (TransitionError, RowLockedError):
            raise
        except run.step.fatal as error:
            self._fail(run, error)
        except RetriesExhaustedError as error:
            self._record_failure(run, error.__cause__ or error)
            raise OperationPendingError from error.__cause__
        except Exception as error:
            self._record_failure(run, error)
            raise

    def _record_failure(self, run: _Run, error: BaseException) -> None:
        """Record a failure for people to read; the attempt goes on if it cannot be recorded."""
        if self._checkpoints.inside:
            return
        try:
            self._checkpoints.record(run.entry(StepStatus.RETRYING, error=type(error).__name__))
        except (DatabaseError, TransitionError, RowLockedError):
            logger.info("a failed step could not be recorded", exc_info=True)

    def _at_most_once(self, run: _Run) -> Any:
        if run.before is None or run.before.status not in _IN_DOUBT:
            return self._once(run)
        if run.before.status is StepStatus.STARTED:
            self._checkpoints.record(run.entry(StepStatus.UNKNOWN, error=run.before.error))
        return self._reconcile(run, None)

    def _once(self, run: _Run) -> Any:
        started = run.entry(StepStatus.STARTED)
        started = replace(started, attempt=started.attempt + 1)
        self._checkpoints.record(started, run.step.timeout or timedelta())
        try:
            result = run.call()
        except run.step.fatal as error:
            self._fail(run, error)
        except Exception as error:
            self._checkpoints.record(run.entry(StepStatus.UNKNOWN, error=type(error).__name__))
            return self._reconcile(run, error)
        return self._record(run, *run.completed(result))

    def _reconcile(self, run: _Run, cause: Exception | None) -> Any:
        """Ask the project about a call that may have been made; record the result it returns."""
        step = run.step
        if step.reconcile is None:
            raise OutcomeUnknownError from cause
        try:
            result = step.reconcile(*step.args, idempotency_key=run.key, **step.kwargs)
        except NotDoneError as error:
            if cause is not None:
                raise OperationPendingError from error
            return self._once(run)
        except Exception as error:
            raise OutcomeUnknownError from error
        return self._record(run, *run.completed(result))

    def _fail(self, run: _Run, error: BaseException) -> NoReturn:
        name = type(error).__name__
        self._checkpoints.record(run.entry(StepStatus.FAILED, error=name))
        self._undo()
        raise OperationFailedError(run.step.name, name) from error

    def _undo(self) -> None:
        """Undo the steps that were done, the last one first."""
        while self._done:
            step, undo, result = self._done[-1]
            back = step.undone(undo, result)
            self.step(back) if step.kind is StepKind.STEP else self.call(back)
            self._done.pop()
