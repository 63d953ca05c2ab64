"""One run of the view, in the transaction that settles its claim.

Receives a claim, or none where the request has no key, and settles it: completed or released with
the view's writes, in one COMMIT. What an error means is for :mod:`.recovery`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from asgiref.sync import sync_to_async
from django.db import transaction
from django.http.response import HttpResponseBase
from django.utils.translation import get_language

from ..http.responses import Verdict, encoded, redacted, refuse_streams, stored, verdict
from ..monitoring.events import Kind
from ..operation import Operation, running
from ..policy import Policy
from ..protocol.claims import Claim
from ..replay_cache.replays import Slot
from ..storage.records import RowLockedError
from ..storage.transactions import is_doomed
from ..storage.values import StoredResponse
from .atomic_requests import request_transactions
from .recovery import Phase, Recovery, tell_of

View = Callable[[], HttpResponseBase]
AsyncView = Callable[[], Awaitable[HttpResponseBase]]


@dataclass(slots=True)
class Attempt:
    """One run of the view; with a claim where the request has a key, without one where not."""

    alias: str
    claim: Claim | None
    operation: Operation
    policy: Policy
    apart: Collection[str]
    slot: Slot | None = None
    phase: Phase = Phase.BEFORE_VIEW
    response: HttpResponseBase | None = None
    recovery: Recovery = field(init=False)

    def __post_init__(self) -> None:
        self.recovery = Recovery(self.alias, self.claim, self.operation, self.policy, self.slot)

    def run_and_settle(self, view: View) -> HttpResponseBase:
        """Run the view once, and settle the claim by what it answered.

        Raises whatever the view raises, InProgressError when the claim was lost, and
        UnavailableError when nobody can say what became of the operation.
        """
        try:
            response, fate = (
                self._in_transaction(view)
                if self.policy.atomic
                else self._settle_plainly(self._respond(view))
            )
        except BaseException as error:
            return self.recovery.after(error, self.phase, self.response)
        self._conclude(response, fate)
        return response

    async def arun_and_settle(self, view: AsyncView) -> HttpResponseBase:
        """The same for a coroutine, whose claim is trusted for its lease, without a row lock.

        A cancelled one keeps its claim to the end of the lease, because its threads may still work.
        """
        try:
            self.phase = Phase.VIEW
            with running(self.operation):
                response = self._accepted(await view())
            response, fate = await sync_to_async(self._settle_plainly)(response)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return await sync_to_async(self.recovery.after)(error, self.phase, self.response)
        await sync_to_async(self._conclude)(response, fate)
        return response

    def _conclude(self, response: HttpResponseBase, fate: Verdict) -> None:
        status = response.status_code
        if fate is Verdict.ROLL_BACK:
            self.recovery.release_late(f"HTTP {status}", for_good=status < 500)
        else:
            kind = Kind.COMPLETED if fate is Verdict.KEEP else Kind.RELEASED
            tell_of(self.operation, self.alias, kind, status=status)

    def _in_transaction(self, view: View) -> tuple[HttpResponseBase, Verdict]:
        try:
            return self._transaction(view, patiently=False)
        except RowLockedError:
            # Locked is not lost: a prober looks at the row in this moment.
            return self._transaction(view, patiently=True)

    def _transaction(self, view: View, *, patiently: bool) -> tuple[HttpResponseBase, Verdict]:
        with transaction.atomic(using=self.alias):
            if self.claim:
                self.claim.lock(patiently=patiently)
            if self.claim and not self.claim.joined:
                # The first of the hooks, so it runs before any that raises.
                transaction.on_commit(self._note_commit, using=self.alias)
            # The other databases commit first and the record last: after a crash in between their
            # writes may be repeated, but no response is replayed whose writes are missing.
            with request_transactions(self.apart) as others:
                response = self._respond(view)
                fate = self._fate_of(response, [self.alias, *others])
                if fate is not Verdict.ROLL_BACK:
                    self.phase = Phase.SAVE
                    self._settle(response, fate, last=not others)
                self.phase = Phase.COMMIT
        return response, fate

    def _note_commit(self) -> None:
        self.phase = Phase.DONE

    def _settle_plainly(self, response: HttpResponseBase) -> tuple[HttpResponseBase, Verdict]:
        fate = verdict(response, self.operation.wish, self.policy)
        if fate is not Verdict.ROLL_BACK:
            # The envelope is deleted in the transaction that settles the record.
            has_envelope = self.claim is not None and self.policy.keeps_request
            with transaction.atomic(using=self.alias) if has_envelope else nullcontext():
                self._settle(response, fate)
        return response, fate

    def _respond(self, view: View) -> HttpResponseBase:
        self.phase = Phase.VIEW
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
        """Complete or release the record; ``last`` says that only COMMIT follows."""
        if self.claim is None:
            return
        if self.policy.keeps_request:
            self.claim.delete_envelope()
        kept = self._kept(response) if fate is Verdict.KEEP else None
        commit = last and self.claim.can_commit
        if commit:
            self.phase = Phase.COMMIT
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
        """Tell the replay cache once the transaction has committed."""
        if self.slot:
            seconds = self.policy.retention.total_seconds()
            transaction.on_commit(partial(self.slot.fill, kept, seconds), using=self.alias)

    def _language(self) -> str | None:
        # LocaleMiddleware, which leaves this attribute, names the language in the first reply. In a
        # replay it would name the language of the request that is answered with it.
        return get_language() if hasattr(self.operation.request, "LANGUAGE_CODE") else None
