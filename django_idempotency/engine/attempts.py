"""One run of the view: its transaction, its response, and what an error in it means.

Receives a claim, or none where the request has no key, and settles it: completed, released with the
writes, or released after a rollback.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import Error, connections, transaction
from django.http import Http404
from django.http.response import HttpResponseBase
from django.utils.translation import get_language

from ..exceptions import IdempotencyError, InProgressError, TransitionError, UnavailableError
from ..http.responses import Verdict, encoded, redacted, refuse_streams, stored, verdict
from ..monitoring.events import Kind, tell
from ..operation import Operation, running
from ..policy import Policy
from ..protocol.claims import Claim
from ..replay_cache.replays import Slot
from ..storage.records import RowLockedError
from ..storage.transactions import UNREACHABLE, is_doomed
from ..storage.values import StoredResponse
from .atomic_requests import request_transactions

logger = logging.getLogger("django_idempotency")

View = Callable[[], HttpResponseBase]
AsyncView = Callable[[], Awaitable[HttpResponseBase]]


class _Phase(Enum):
    """How far an attempt came; it decides what an error means."""

    BEFORE_VIEW = auto()
    VIEW = auto()
    SAVE = auto()
    COMMIT = auto()
    #: Committed; what raises now is a hook of on_commit().
    DONE = auto()


def _is_the_clients(error: BaseException) -> bool:
    """Whether Django or REST framework answers it with a 4xx, and no completer can mend it."""
    if isinstance(error, IdempotencyError):
        return False
    by_itself = isinstance(error, Http404 | PermissionDenied | SuspiciousOperation | BadRequest)
    return by_itself or 400 <= getattr(error, "status_code", 500) < 500


@dataclass(slots=True)
class Attempt:
    """One run of the view; with a claim where the request has a key, without one where not."""

    alias: str
    claim: Claim | None
    operation: Operation
    policy: Policy
    apart: Collection[str]
    slot: Slot | None = None
    phase: _Phase = _Phase.BEFORE_VIEW
    response: HttpResponseBase | None = None

    def run(self, view: View) -> HttpResponseBase:
        """Run the view once and settle what it answered.

        Raises whatever the view raises, and InProgressError when the claim was lost.
        """
        try:
            response, fate = (
                self._in_transaction(view)
                if self.policy.atomic
                else self._settle_plainly(self._respond(view))
            )
        except BaseException as error:
            return self._after(error)
        self._conclude(response, fate)
        return response

    async def arun(self, view: AsyncView) -> HttpResponseBase:
        """The same for a coroutine, whose claim no row lock vouches for: the lease does.

        A cancelled one keeps its claim to the end of the lease: what its threads still do, nobody
        knows.
        """
        try:
            self.phase = _Phase.VIEW
            with running(self.operation):
                response = self._accepted(await view())
            response, fate = await sync_to_async(self._settle_plainly)(response)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return await sync_to_async(self._after)(error)
        await sync_to_async(self._conclude)(response, fate)
        return response

    def _conclude(self, response: HttpResponseBase, fate: Verdict) -> None:
        if fate is not Verdict.ROLL_BACK:
            self._tell_settled(fate, response)
        else:
            status = response.status_code
            self._release_late(f"HTTP {status}", for_good=status < 500)

    def _in_transaction(self, view: View) -> tuple[HttpResponseBase, Verdict]:
        try:
            return self._transaction(view, patiently=False)
        except RowLockedError:
            # Locked is not lost: a prober looked at the row in this very moment.
            return self._transaction(view, patiently=True)

    def _transaction(self, view: View, *, patiently: bool) -> tuple[HttpResponseBase, Verdict]:
        with transaction.atomic(using=self.alias):
            if self.claim:
                self.claim.lock(patiently=patiently)
            if self.claim and not self.claim.joined:
                # The first of the hooks, so it runs before any that raises.
                transaction.on_commit(self._note_commit, using=self.alias)
            # The other databases commit first and the record last: a crash in between may repeat
            # their writes, but never replays over missing ones.
            with request_transactions(self.apart) as others:
                response = self._respond(view)
                fate = self._fate_of(response, [self.alias, *others])
                if fate is not Verdict.ROLL_BACK:
                    self.phase = _Phase.SAVE
                    self._settle(response, fate, last=not others)
                self.phase = _Phase.COMMIT
        return response, fate

    def _note_commit(self) -> None:
        self.phase = _Phase.DONE

    def _settle_plainly(self, response: HttpResponseBase) -> tuple[HttpResponseBase, Verdict]:
        fate = verdict(response, self.operation.wish, self.policy)
        if fate is not Verdict.ROLL_BACK:
            # The record and its envelope settle as one.
            one = transaction.atomic(using=self.alias) if self._has_envelope else nullcontext()
            with one:
                self._settle(response, fate)
        return response, fate

    @property
    def _has_envelope(self) -> bool:
        return self.claim is not None and self.policy.keeps_request

    def _tell(self, kind: Kind, **details: Any) -> None:
        if self.claim and self.operation.intent:
            attempt = self.operation.attempt
            tell(kind, self.alias, self.operation.intent, attempt=attempt, **details)

    def _tell_settled(self, fate: Verdict, response: HttpResponseBase) -> None:
        kind = Kind.COMPLETED if fate is Verdict.KEEP else Kind.RELEASED
        self._tell(kind, status=response.status_code)

    def _respond(self, view: View) -> HttpResponseBase:
        self.phase = _Phase.VIEW
        with running(self.operation):
            return self._accepted(view())

    def _accepted(self, response: object) -> HttpResponseBase:
        if not isinstance(response, HttpResponseBase):
            raise TypeError(f"a view must return a response, not {response!r}")
        refuse_streams(response)
        self.response = response
        return response

    def _fate_of(self, response: HttpResponseBase, aliases: list[str]) -> Verdict:
        fate = verdict(response, self.operation.wish, self.policy)
        if fate is not Verdict.ROLL_BACK and any(map(is_doomed, aliases)):
            if response.status_code < 400:
                raise transaction.TransactionManagementError(
                    f"the view answered {response.status_code}, and its transaction is marked for"
                    " rollback"
                )
            fate = Verdict.ROLL_BACK
        if fate is Verdict.ROLL_BACK:
            for alias in aliases:
                transaction.set_rollback(True, using=alias)
        return fate

    def _settle(self, response: HttpResponseBase, fate: Verdict, *, last: bool = False) -> None:
        """Complete or release; ``last`` says that nothing but COMMIT is to follow."""
        if self.claim is None:
            return
        if self._has_envelope:
            self.claim.wipe()
        kept = self._kept(response) if fate is Verdict.KEEP else None
        commit = last and self.claim.can_commit
        if commit:
            self.phase = _Phase.COMMIT
        if kept is None:
            self.claim.release(commit=commit)
        else:
            self.claim.complete(kept, commit=commit)
        self._when_committed(kept)

    def _kept(self, response: HttpResponseBase) -> StoredResponse:
        limit = self.policy.max_response_bytes
        saved = stored(response, limit, language=self._language())
        return encoded(redacted(saved, self.policy))

    def _when_committed(self, kept: StoredResponse | None) -> None:
        """Let the replay cache know, when everybody else can."""
        if self.slot is None:
            return
        if kept is None:
            known: Callable[[], None] = self.slot.clear_fence
        else:
            known = partial(self.slot.fill, kept, self.policy.retention.total_seconds())
        transaction.on_commit(known, using=self.alias)

    def _language(self) -> str | None:
        # LocaleMiddleware, which leaves this attribute, will say so in the first reply; in a replay
        # it would name the language of whoever asks again.
        return get_language() if hasattr(self.operation.request, "LANGUAGE_CODE") else None

    def _after(self, error: BaseException) -> HttpResponseBase:
        """What to say after an error; raises it, or what it means."""
        if isinstance(error, TransitionError | RowLockedError):
            raise self._not_ours(error) from error
        if isinstance(error, UNREACHABLE) and self.phase in (_Phase.BEFORE_VIEW, _Phase.COMMIT):
            self._hang_up()
        if self.phase is _Phase.DONE and self.response:
            self._tell(Kind.COMPLETED, status=self.response.status_code)
        freed = self.phase is not _Phase.DONE and self._release_late(
            type(error).__name__, for_good=_is_the_clients(error)
        )
        if self.claim and isinstance(error, UNREACHABLE):
            return self._after_unreachable(error, self.claim, freed)
        raise error

    def _after_unreachable(
        self, error: Error, claim: Claim, freed: bool | None
    ) -> HttpResponseBase:
        if self.phase is _Phase.BEFORE_VIEW:
            raise UnavailableError from error
        if self.phase is _Phase.COMMIT and freed is False:
            return self._after_commit_raised(error)
        # Whoever could not be asked to free the row will not say what became of it.
        unknown = self.phase is _Phase.COMMIT and freed is None
        at_the_end = self.phase in (_Phase.SAVE, _Phase.COMMIT)
        # Not serializable, at the last moment: nothing was done, and a retry may succeed.
        if unknown or (at_the_end and claim.store.dialect.is_lost(error)):
            raise UnavailableError from error
        raise error

    def _not_ours(self, error: Exception) -> InProgressError:
        if not self.policy.atomic:
            # It may be nobody's: the row was locked for long, or a deadlock threw ours away.
            self._release_late(type(error).__name__)
        return InProgressError()

    def _hang_up(self) -> None:
        """Drop a connection that failed where a transaction begins or ends.

        It may still be in the transaction, whatever Django thinks: it would read what it has not
        committed, and hold the row.
        """
        connection = connections[self.alias]
        if not connection.in_atomic_block:
            connection.close()

    def _after_commit_raised(self, error: BaseException) -> HttpResponseBase:
        """The reply, if the record says that it was committed all the same."""
        try:
            committed = cast(Claim, self.claim).is_committed()
        except Error as unreachable:
            self._hang_up()
            raise UnavailableError from unreachable
        if committed:
            logger.warning("COMMIT raised, and the record says it was done", exc_info=error)
            response = cast(HttpResponseBase, self.response)
            self._tell(Kind.COMPLETED, status=response.status_code)
            return response
        raise UnavailableError from error

    def _wipe_late(self) -> None:
        if self.claim and self._has_envelope:
            try:
                self.claim.wipe()
            except Error:
                self._hang_up()
                logger.info("a stored request is left to the completer", exc_info=True)

    def _release_late(self, reason: str, *, for_good: bool = False) -> bool | None:
        """Free the key after a rollback; whether it is free, or None. Never changes the reply.

        ``for_good`` says that no completer can do better, for the request has to be mended.
        """
        if self.claim is None:
            return False
        try:
            freed = self.claim.release_late(reason)
        except Error:
            self._hang_up()
            logger.warning("a key could not be released; a retry takes it over", exc_info=True)
            return None
        if freed:
            self._tell(Kind.RELEASED, error=reason)
            if self.slot:
                self.slot.clear_fence()
            if for_good:
                self._wipe_late()
        return freed
