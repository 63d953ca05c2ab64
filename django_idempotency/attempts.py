"""One run of the view: its transaction, its response, and what an error in it means.

Receives a claim, or none where the request has no key, and settles it: completed, released with the
writes, or released after a rollback.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.db import Error, InterfaceError, OperationalError, connections, transaction
from django.http.response import HttpResponseBase
from django.utils.translation import get_language

from .claims import Claim
from .codecs import encoded
from .events import Kind, event_of, tell
from .exceptions import InProgressError, TransitionError, UnavailableError
from .operation import Operation, running
from .policy import Policy
from .responses import Verdict, redacted, refuse_streams, stored, verdict
from .store import RowLockedError
from .transactions import is_doomed, request_transactions

logger = logging.getLogger("django_idempotency")

View = Callable[[], HttpResponseBase]
AsyncView = Callable[[], Awaitable[HttpResponseBase]]

#: What a database that is not there makes Django raise.
UNREACHABLE = (OperationalError, InterfaceError)


class _Phase(Enum):
    """How far an attempt came; it decides what an error means."""

    BEFORE_VIEW = auto()
    VIEW = auto()
    SAVE = auto()
    COMMIT = auto()
    #: Committed; what raises now is a hook of on_commit().
    DONE = auto()


@dataclass(slots=True)
class Attempt:
    """One run of the view; with a claim where the request has a key, without one where not."""

    alias: str
    claim: Claim | None
    operation: Operation
    policy: Policy
    apart: Collection[str]
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
        except TransitionError as error:
            raise InProgressError from error
        except BaseException as error:
            return self._after(error)
        if fate is Verdict.ROLL_BACK:
            self._release_late(f"HTTP {response.status_code}")
        else:
            self._tell_settled(fate, response)
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
        except TransitionError as error:
            raise InProgressError from error
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return await sync_to_async(self._after)(error)
        if fate is Verdict.ROLL_BACK:
            await sync_to_async(self._release_late)(f"HTTP {response.status_code}")
        else:
            await sync_to_async(self._tell_settled)(fate, response)
        return response

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
                    self._settle(response, fate)
                self.phase = _Phase.COMMIT
        return response, fate

    def _note_commit(self) -> None:
        self.phase = _Phase.DONE

    def _settle_plainly(self, response: HttpResponseBase) -> tuple[HttpResponseBase, Verdict]:
        fate = verdict(response, self.operation.wish, self.policy)
        if fate is not Verdict.ROLL_BACK:
            self._settle(response, fate)
        return response, fate

    def _tell(self, kind: Kind, **details: Any) -> None:
        if self.claim and self.operation.intent:
            attempt = self.operation.attempt
            tell(event_of(kind, self.alias, self.operation.intent, attempt=attempt, **details))

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

    def _settle(self, response: HttpResponseBase, fate: Verdict) -> None:
        if self.claim is None:
            return
        if fate is Verdict.KEEP:
            limit = self.policy.max_response_bytes
            saved = stored(response, limit, language=self._language())
            self.claim.complete(encoded(redacted(saved, self.policy)))
        else:
            self.claim.release()

    def _language(self) -> str | None:
        # LocaleMiddleware, which leaves this attribute, will say so in the first reply; in a replay
        # it would name the language of whoever asks again.
        return get_language() if hasattr(self.operation.request, "LANGUAGE_CODE") else None

    def _after(self, error: BaseException) -> HttpResponseBase:
        """What to say after an error; raises it, or what it means."""
        if isinstance(error, RowLockedError):
            raise InProgressError from error
        if isinstance(error, UNREACHABLE) and self.phase in (_Phase.BEFORE_VIEW, _Phase.COMMIT):
            self._hang_up()
        if self.phase is _Phase.DONE and self.response:
            self._tell(Kind.COMPLETED, status=self.response.status_code)
        freed = self.phase is not _Phase.DONE and self._release_late(type(error).__name__)
        if self.claim and isinstance(error, UNREACHABLE):
            if self.phase is _Phase.BEFORE_VIEW:
                raise UnavailableError from error
            if self.phase is _Phase.COMMIT and not freed:
                return self._after_commit_raised(error)
            at_the_end = self.phase in (_Phase.SAVE, _Phase.COMMIT)
            if at_the_end and self.claim.store.dialect.is_lost(error):
                # Not serializable, at the last moment: nothing was done, and a retry may succeed.
                raise UnavailableError from error
        raise error

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

    def _release_late(self, reason: str) -> bool:
        """Free the key after a rollback; whether it is free. Never changes the reply."""
        if self.claim is None:
            return False
        try:
            freed = self.claim.release_late(reason)
        except Error:
            self._hang_up()
            logger.warning("a key could not be released; a retry takes it over", exc_info=True)
            return False
        if freed:
            self._tell(Kind.RELEASED, error=reason)
        return freed
