"""The story of a covered request, and the owner of every transaction in it.

    read key -> scope -> fingerprint -> claim -> run the view in a transaction -> save -> commit

What is guaranteed, sentence by sentence:

- The view's writes on the record's database and the saved response commit in one transaction.
- A response is replayed only if that transaction committed.
- With and without a key the view runs in the same transaction, under the same rule.
- An attempt that raised or answered 5xx leaves nothing but a free key; one that died leaves a row
  lock nobody holds.
- After a COMMIT that raised, the record is asked what became of it before anything is said.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

from django.db import (
    Error,
    InterfaceError,
    OperationalError,
    connections,
    router,
    transaction,
)
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .claims import Claim, obtain
from .exceptions import InProgressError, KeyMissingError, TransitionError, UnavailableError
from .fingerprint import fingerprint_of
from .http import http_request
from .keys import Key, record_id, scope_of
from .models import IdempotencyRecord
from .operation import Operation, current_operation, running
from .policy import Policy
from .responses import Verdict, refuse_streams, replay, stored, verdict
from .store import Intent, RowLockedError, Store, StoredResponse
from .transactions import is_doomed, request_transactions

logger = logging.getLogger("django_idempotency")

View = Callable[[], HttpResponseBase]

_UNREACHABLE = (OperationalError, InterfaceError)


class _Phase(Enum):
    """How far an attempt came; it decides what an error means."""

    BEFORE_VIEW = auto()
    VIEW = auto()
    SAVE = auto()
    COMMIT = auto()
    #: Committed; what raises now is a hook of on_commit().
    DONE = auto()


def database_of(request: HttpRequest, policy: Policy) -> str:
    """The alias of the record and of the view's transaction."""
    using = policy.using(request) if callable(policy.using) else policy.using
    return using or router.db_for_write(IdempotencyRecord)


def _intent(request: HttpRequest, policy: Policy, key: Key) -> Intent:
    scope = scope_of(request, policy, key.value)
    return Intent(
        id=record_id(scope, key.value),
        scope=scope,
        key=key.value,
        fingerprint=fingerprint_of(request, policy),
        method=(request.method or "")[:16],
        # PostgreSQL's text holds every character but this one.
        path=request.path[:255].replace("\0", "\N{REPLACEMENT CHARACTER}"),
    )


@dataclass(slots=True)
class _Attempt:
    """One run of the view; with a claim where the request has a key, without one where not."""

    alias: str
    claim: Claim | None
    operation: Operation
    policy: Policy
    view: View
    apart: Collection[str]
    phase: _Phase = _Phase.BEFORE_VIEW
    response: HttpResponseBase | None = None

    def run(self) -> HttpResponseBase:
        """Run the view once and settle what it answered.

        Raises whatever the view raises, and InProgressError when the claim was lost.
        """
        try:
            response, fate = self._in_transaction() if self.policy.atomic else self._plainly()
        except TransitionError as error:
            raise InProgressError from error
        except BaseException as error:
            return self._after(error)
        if fate is Verdict.ROLL_BACK:
            self._release_late(f"HTTP {response.status_code}")
        return response

    def _in_transaction(self) -> tuple[HttpResponseBase, Verdict]:
        try:
            return self._transaction(patiently=False)
        except RowLockedError:
            # Locked is not lost: a prober looked at the row in this very moment.
            return self._transaction(patiently=True)

    def _transaction(self, *, patiently: bool) -> tuple[HttpResponseBase, Verdict]:
        with transaction.atomic(using=self.alias):
            if self.claim:
                self.claim.lock(patiently=patiently)
            if self.claim and not self.claim.joined:
                # The first of the hooks, so it runs before any that raises.
                transaction.on_commit(self._note_commit, using=self.alias)
            # The other databases commit first and the record last: a crash in between may repeat
            # their writes, but never replays over missing ones.
            with request_transactions(self.apart) as others:
                response = self._respond()
                fate = self._fate_of(response, [self.alias, *others])
                if fate is not Verdict.ROLL_BACK:
                    self.phase = _Phase.SAVE
                    self._settle(response, fate)
                self.phase = _Phase.COMMIT
        return response, fate

    def _note_commit(self) -> None:
        self.phase = _Phase.DONE

    def _plainly(self) -> tuple[HttpResponseBase, Verdict]:
        response = self._respond()
        fate = verdict(response, self.operation.wish, self.policy)
        if fate is Verdict.RELEASE and self.claim:
            self.claim.release()
        elif fate is Verdict.KEEP:
            self._settle(response, fate)
        return response, fate

    def _respond(self) -> HttpResponseBase:
        self.phase = _Phase.VIEW
        with running(self.operation):
            response = self.view()
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
            self.claim.complete(stored(response, self.policy.max_response_bytes))
        else:
            self.claim.release()

    def _after(self, error: BaseException) -> HttpResponseBase:
        """What to say after an error; raises it, or what it means."""
        if isinstance(error, RowLockedError):
            raise InProgressError from error
        if isinstance(error, _UNREACHABLE) and self.phase in (_Phase.BEFORE_VIEW, _Phase.COMMIT):
            self._hang_up()
        freed = self.phase is not _Phase.DONE and self._release_late(type(error).__name__)
        if self.claim and isinstance(error, _UNREACHABLE):
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
            return cast(HttpResponseBase, self.response)
        raise UnavailableError from error

    def _release_late(self, reason: str) -> bool:
        """Free the key after a rollback; whether it is free. Never changes the reply."""
        if self.claim is None:
            return False
        try:
            return self.claim.release_late(reason)
        except Error:
            self._hang_up()
            logger.warning("a key could not be released; a retry takes it over", exc_info=True)
            return False


def _obtain(alias: str, intent: Intent, policy: Policy) -> Claim | StoredResponse:
    try:
        return obtain(Store(alias), intent, policy)
    except _UNREACHABLE as error:
        logger.error("the store cannot be reached, so nothing runs", exc_info=True)
        raise UnavailableError from error


def execute(
    request: HttpRequest,
    policy: Policy,
    key: Key | None,
    view: View,
    *,
    apart: Collection[str] = (),
) -> HttpResponseBase:
    """The view's response, or the one an earlier request with the same key got.

    ``request`` is what the view sees (REST framework's Request, too); ``view`` runs it and renders
    its response; ``apart`` are aliases the view keeps out of ATOMIC_REQUESTS. Raises an
    IdempotencyError, or whatever the view raises.
    """
    plain = http_request(request)
    if key is None:
        if policy.required:
            raise KeyMissingError
        operation = Operation(plain, None, 1)
        return _Attempt(database_of(request, policy), None, operation, policy, view, apart).run()
    intent = _intent(request, policy, key)
    outer = current_operation()
    if outer is not None and outer.record_id == intent.id:
        return view()
    alias = database_of(request, policy)
    outcome = _obtain(alias, intent, policy)
    if isinstance(outcome, StoredResponse):
        return replay(outcome)
    operation = Operation(plain, intent, outcome.terms.attempts)
    return _Attempt(alias, outcome, operation, policy, view, apart).run()
