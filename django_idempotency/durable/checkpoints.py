"""What one attempt has recorded of its steps, and the transactions in which it records more.

Each of these transactions locks the record and checks the owner token: an attempt whose claim was
taken over can record nothing.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from django.db import transaction

from ..exceptions import TransitionError
from ..protocol.claims import Claim
from ..storage.records import PROBER_SECONDS, RowLockedError
from ..storage.steps import Entry, Journal
from ..storage.transactions import is_doomed


class Checkpoints:
    """The recorded steps of a ``claim``; without a claim nothing is recorded.

    ``inside``: the whole view is one transaction, and so are its steps. ``since``: when the claim
    was made, by the monotonic clock.
    """

    def __init__(self, using: str, claim: Claim | None, *, inside: bool, since: float) -> None:
        self._using = using
        self._claim = claim
        self._journal = Journal(using)
        self.inside = inside or (claim is not None and claim.joined)
        is_first = claim is None or claim.is_first
        self._entries: dict[str, Entry] | None = {} if is_first else None
        self._last_beat = since
        # A view may catch the TransitionError and go on; its next steps must fail, too.
        self._lost = False

    def find(self, names: tuple[str, ...]) -> Entry | None:
        """The step recorded under the first of these names that has one; None if none has."""
        if self._entries is None and self._claim:
            self._entries = self._journal.load(self._claim.id)
        entries = self._entries or {}
        return next((entries[name] for name in names if name in entries), None)

    @contextmanager
    def transaction(self, name: str, longer: timedelta = timedelta()) -> Iterator[str]:
        """A transaction that locks the record and renews the lease, by ``longer`` more.

        Yields its mark in the record. Raises TransitionError when the claim was lost.
        """
        if self._claim is None or self.inside:
            with transaction.atomic(using=self._using, durable=not self.inside):
                yield ""
                self._refuse_doomed(name)
            return
        # Still in the row when the step is recorded, it proves that nothing was rolled back since.
        mark = f"step {uuid.uuid4().hex[:12]} {name}"[:255]
        with ExitStack() as stack:
            try:
                stack.enter_context(self._locked(self._claim, mark, longer, wait=None))
            except RowLockedError:
                patient = self._locked(self._claim, mark, longer, wait=PROBER_SECONDS)
                stack.enter_context(patient)
            yield mark
            self._refuse_doomed(name)

    def _refuse_doomed(self, name: str) -> None:
        if is_doomed(self._using):
            raise transaction.TransactionManagementError(
                f"step {name!r} came to its end, and its transaction is marked for rollback"
            )

    @contextmanager
    def _locked(
        self, claim: Claim, mark: str, longer: timedelta, *, wait: float | None
    ) -> Iterator[None]:
        lease = claim.terms.lease + longer
        if self._lost:
            raise TransitionError("taken over before")
        with transaction.atomic(using=self._using, durable=True):
            if not self._journal.beat(claim.id, claim.terms.token, lease, wait=wait, mark=mark):
                self._lost = True
                raise TransitionError("taken over before the step began")
            beat = time.monotonic()
            yield
        self._last_beat = beat

    def write(self, entry: Entry, *, mark: str) -> None:
        """Record a step in the open transaction; raises TransitionError when the claim was lost."""
        if self._claim is None:
            return
        record, token = self._claim.id, self._claim.terms.token
        written = (
            self._journal.change(record, token, entry, mark=mark)
            if entry.name in (self._entries or {})
            else self._journal.add(record, token, entry, mark=mark)
        )
        if not written:
            self._lost = True
            raise TransitionError(f"taken over before step {entry.name!r} was recorded")

    def remember(self, entry: Entry) -> None:
        """Note in memory what is recorded of a step, once its transaction has committed."""
        if self._entries is not None:
            self._entries[entry.name] = entry

    def record(self, entry: Entry, longer: timedelta = timedelta()) -> None:
        """Record a step in a transaction of its own."""
        if self._claim:
            with self.transaction(entry.name, longer) as mark:
                self.write(entry, mark=mark)
        self.remember(entry)

    def beat(self, longer: timedelta = timedelta()) -> None:
        """Renew the lease, by ``longer`` more; raises TransitionError when the claim was lost."""
        if self._claim and not self.inside:
            with self.transaction("", longer):
                pass

    def ensure_lease(self, duration: timedelta) -> None:
        """The lease covers what takes ``duration``: it is renewed unless enough of it is left."""
        if self._claim is None:
            return
        age = timedelta(seconds=time.monotonic() - self._last_beat)
        # The other half of the lease is for what follows the call.
        if self._lost or age + duration > self._claim.terms.lease / 2:
            self.beat(duration)
