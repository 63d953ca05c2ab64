"""The steps of one attempt: a recorded one is never run again, an open one is.

What is guaranteed, sentence by sentence:

- The rows of a step and its checkpoint commit in one transaction: exactly once.
- A call is made outside of any transaction, and recorded after it: at least once, always with the
  same downstream key; or at most once, and its outcome may then be unknown.
- After a fatal failure the undos of what was done run in reverse, as calls or steps of their own.
"""

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
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
from ..storage.values import Intent
from .checkpoints import Checkpoints
from .definitions import Function, Work, digest_of, recall, result_from_json, result_to_json

logger = logging.getLogger("django_idempotency.steps")

_OVER = (StepStatus.COMPLETED, StepStatus.FAILED)
_IN_DOUBT = (StepStatus.STARTED, StepStatus.UNKNOWN)


class _NotMadeError(BaseException):
    """A call was not made, for the reason that is its cause; no Retry and no view catches it."""


@dataclass(slots=True)
class Block:
    """What a ``with`` block does: unless ``recorded``, the work, whose ``result`` it sets."""

    recorded: bool = False
    result: Any = None


@dataclass(slots=True)
class _Run:
    """What is to be recorded of a step in this attempt; ``before`` is what was until now."""

    work: Work
    digest: bytes
    #: What another service tells it by.
    key: str
    before: Entry | None
    tries: int = 0
    began: float = field(default_factory=time.monotonic)

    def entry(self, status: StepStatus, **details: Any) -> Entry:
        """The step as it is now."""
        return Entry(
            self.before.name if self.before else self.work.name,
            self.work.kind,
            status,
            (self.before.attempt if self.before else 0) + self.tries,
            self.digest,
            took=timedelta(seconds=time.monotonic() - self.began),
            **details,
        )

    def completed(self, result: Any) -> tuple[Entry, Any]:
        """The step with its result, and the result as it will be read again."""
        text = result_to_json(self.work.name, result)
        output, codec = encode(text)
        return self.entry(StepStatus.COMPLETED, output=output, codec=codec), result_from_json(text)


def downstream_key(intent: Intent, name: str) -> str:
    """A key for another service, the same in every attempt."""
    sha = hashlib.sha256()
    for part in (intent.scope.encode(), intent.key.encode(), intent.fingerprint, name.encode()):
        sha.update(len(part).to_bytes(4, "big") + part)
    return str(uuid.UUID(bytes=sha.digest()[:16], version=5))


class Steps:
    """The steps of one attempt, with its key or, where it has none, without."""

    def __init__(self, using: str, intent: Intent | None, checkpoints: Checkpoints) -> None:
        self._using = using
        self._intent = intent
        self._checkpoints = checkpoints
        self._used: set[str] = set()
        self._done: list[tuple[Work, Function, Any]] = []

    def step(self, work: Work) -> Any:
        """The result of a step, which commits with its checkpoint."""
        with self.block(work) as block:
            if not block.recorded:
                block.result = work.run()
        return block.result

    @contextmanager
    def block(self, work: Work) -> Iterator[Block]:
        """The same, whose work stands in the block."""
        run = self._begin(work)
        if run.before and run.before.status in _OVER:
            yield Block(recorded=True, result=self._recall(work, run.before))
            return
        block = Block()
        with self._watched(run):
            run.tries = 1
            with self._checkpoints.transaction(work.name) as mark:
                yield block
                entry, block.result = run.completed(block.result)
                self._checkpoints.write(entry, mark=mark)
        self._remember(work, entry, block.result)

    def call(self, work: Work) -> Any:
        """The result of a call, which is recorded after it was made."""
        self._refuse_transaction(work)
        run = self._begin(work)
        if run.before and run.before.status in _OVER:
            return self._recall(work, run.before)
        return self._at_most_once(run) if work.at_most_once else self._at_least_once(run)

    def _begin(self, work: Work) -> _Run:
        if work.name in self._used:
            raise ValueError(f"step {work.name!r} was done before in this attempt: loops need key=")
        digest = digest_of(work.name, work.args, work.kwargs)
        run = _Run(work, digest, self._key_of(work), self._checkpoints.find(work.names))
        if run.before and run.before.status is not StepStatus.RETRYING:
            self._refuse_drift(run, run.before)
        return run

    def _refuse_drift(self, run: _Run, before: Entry) -> None:
        if before.digest == run.digest:
            return
        text = f"step {run.work.name!r} was recorded with other arguments"
        if conf.step_drift() != "warn":
            raise StepDriftError(text)
        logger.warning("%s; what is recorded counts", text)

    def _recall(self, work: Work, entry: Entry) -> Any:
        if entry.status is StepStatus.FAILED:
            self._take_back()
            raise OperationFailedError(work.name, entry.error)
        try:
            result = recall(entry.output, entry.codec)
        except UndecodableError as error:
            logger.error("step %r is %s; nothing runs", work.name, error, exc_info=True)
            raise UnavailableError from error
        self._remember(work, entry, result)
        return result

    def _remember(self, work: Work, entry: Entry, result: Any) -> None:
        self._checkpoints.keep(entry)
        self._used.add(work.name)
        if work.undo:
            self._done.append((work, work.undo, result))

    def _record(self, run: _Run, entry: Entry, result: Any) -> Any:
        self._checkpoints.record(entry)
        self._remember(run.work, entry, result)
        return result

    def _refuse_transaction(self, work: Work) -> None:
        blocks = connections[self._using].atomic_blocks
        if not all(getattr(block, "_from_testcase", False) for block in blocks):
            raise transaction.TransactionManagementError(
                f"call {work.name!r} must not be made inside a transaction, which would stay open"
                " as long as it takes: protect the view with atomic=False"
            )

    def _key_of(self, work: Work) -> str:
        intent = self._intent
        return downstream_key(intent, work.first_name) if intent else str(uuid.uuid4())

    def _made(self, run: _Run) -> Callable[[], Any]:
        """The call, to be tried once or more."""
        work = run.work
        extra: dict[str, Any] = {"idempotency_key": run.key}
        if work.timeout is not None and work.kind is not StepKind.UNDO:
            extra["timeout"] = work.timeout.total_seconds()

        def made() -> Any:
            run.tries += 1
            return work.run(**extra)

        return made

    def _made_surely(self, run: _Run) -> Callable[[], Any]:
        """The same, and each time its claim is made sure of before."""
        made, duration = self._made(run), run.work.timeout or timedelta()

        def made_surely() -> Any:
            try:
                self._checkpoints.make_sure(duration)
            except Exception as error:
                raise _NotMadeError from error
            return made()

        return made_surely

    def _at_least_once(self, run: _Run) -> Any:
        made, retry, never = (
            self._made_surely(run),
            run.work.retry,
            (*run.work.fatal, _NotMadeError),
        )
        try:
            with self._watched(run):
                result = retry.run(made, never=never) if retry else made()
        except _NotMadeError as error:
            raise error.__cause__ or error from None
        return self._record_made(run, result)

    def _record_made(self, run: _Run, result: Any) -> Any:
        """Record a call that was made, whatever may be wrong with its result."""
        try:
            entry, result = run.completed(result)
        except (TypeError, ValueError) as error:
            self._note(run, error)
            raise
        return self._record(run, entry, result)

    @contextmanager
    def _watched(self, run: _Run) -> Iterator[None]:
        """Record how a step fails; raises what it raises, or what that means."""
        try:
            yield
        except (TransitionError, RowLockedError):
            raise
        except run.work.fatal as error:
            self._fail(run, error)
        except RetriesExhaustedError as error:
            self._note(run, error.__cause__ or error)
            raise OperationPendingError from error.__cause__
        except Exception as error:
            self._note(run, error)
            raise

    def _note(self, run: _Run, error: BaseException) -> None:
        """Leave a trace of a failure for people; the attempt comes to its end without one, too."""
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
        return self._ask(run, None)

    def _once(self, run: _Run) -> Any:
        started = run.entry(StepStatus.STARTED)
        started = started.but(StepStatus.STARTED, attempt=started.attempt + 1)
        self._checkpoints.record(started, run.work.timeout or timedelta())
        try:
            result = self._made(run)()
        except run.work.fatal as error:
            self._fail(run, error)
        except Exception as error:
            self._checkpoints.record(run.entry(StepStatus.UNKNOWN, error=type(error).__name__))
            return self._ask(run, error)
        return self._record(run, *run.completed(result))

    def _ask(self, run: _Run, cause: Exception | None) -> Any:
        """What the project finds out about a call that may have been made."""
        work = run.work
        if work.reconcile is None:
            raise OutcomeUnknownError from cause
        try:
            result = work.reconcile(*work.args, idempotency_key=run.key, **work.kwargs)
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
        self._take_back()
        raise OperationFailedError(run.work.name, name) from error

    def _take_back(self) -> None:
        """Run the undos of what was done, the last first."""
        while self._done:
            work, undo, result = self._done[-1]
            back = work.taken_back(undo, result)
            self.step(back) if work.kind is StepKind.STEP else self.call(back)
            self._done.pop()
