"""What one attempt has recorded of its steps, and the transactions in which it records more.

Each of them holds the record and checks whose it is: who was taken over can record nothing.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from django.db import transaction

from ..exceptions import TransitionError
from ..protocol.claims import Claim
from ..storage.records import RowLockedError
from ..storage.steps import Entry, Journal
from ..storage.transactions import is_doomed

# A prober or a clean-up holds the record for one statement.
_PATIENCE_SECONDS = 1.0


class Checkpoints:
    """The recorded steps of a ``claim``; without one, nothing is recorded.

    ``inside`` says that all of the view is one transaction, and ``since`` when the claim was made,
    by the monotonic clock.
    """

    def __init__(self, using: str, claim: Claim | None, *, inside: bool, since: float) -> None:
        self._using = using
        self._claim = claim
        self._journal = Journal(using)
        self.inside = inside or (claim is not None and claim.joined)
        is_first = claim is None or claim.is_first
        self._entries: dict[str, Entry] | None = {} if is_first else None
        self._beaten = since
        # A view may not care, and go on.
        self._lost = False

    def find(self, names: tuple[str, ...]) -> Entry | None:
        """What is recorded under the first of these names that anything is recorded under."""
        if self._entries is None and self._claim:
            self._entries = self._journal.load(self._claim.id)
        entries = self._entries or {}
        return next((entries[name] for name in names if name in entries), None)

    @contextmanager
    def transaction(self, name: str, longer: timedelta = timedelta()) -> Iterator[str]:
        """A transaction that holds the record, and trusts its claim for a lease and ``longer``.

        Yields the mark it left there. Raises TransitionError when the claim was lost.
        """
        if self._claim is None or self.inside:
            with transaction.atomic(using=self._using, durable=not self.inside):
                yield ""
                self._refuse_doomed(name)
            return
        # Who finds it in the row knows that nothing was rolled back meanwhile.
        mark = f"step {uuid.uuid4().hex[:12]} {name}"[:255]
        with ExitStack() as stack:
            try:
                stack.enter_context(self._holding(self._claim, mark, longer, wait=None))
            except RowLockedError:
                held = self._holding(self._claim, mark, longer, wait=_PATIENCE_SECONDS)
                stack.enter_context(held)
            yield mark
            self._refuse_doomed(name)

    def _refuse_doomed(self, name: str) -> None:
        if is_doomed(self._using):
            raise transaction.TransactionManagementError(
                f"step {name!r} came to its end, and its transaction is marked for rollback"
            )

    @contextmanager
    def _holding(
        self, claim: Claim, mark: str, longer: timedelta, *, wait: float | None
    ) -> Iterator[None]:
        lease = claim.terms.lease + longer
        if self._lost:
            raise TransitionError("taken over before")
        with transaction.atomic(using=self._using, durable=True):
            if not self._journal.beat(claim.id, claim.terms.token, lease, wait=wait, mark=mark):
                self._lost = True
                raise TransitionError("taken over before the step began")
            beaten = time.monotonic()
            yield
        self._beaten = beaten

    def write(self, entry: Entry, *, mark: str) -> None:
        """Record a step in the transaction that is open; raises TransitionError."""
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

    def keep(self, entry: Entry) -> None:
        """Know of a step whose transaction has committed."""
        if self._entries is not None:
            self._entries[entry.name] = entry

    def record(self, entry: Entry, longer: timedelta = timedelta()) -> None:
        """Record a step in a transaction of its own."""
        if self._claim:
            with self.transaction(entry.name, longer) as mark:
                self.write(entry, mark=mark)
        self.keep(entry)

    def beat(self, longer: timedelta = timedelta()) -> None:
        """Trust the claim for another lease, and for ``longer``; raises TransitionError."""
        if self._claim and not self.inside:
            with self.transaction("", longer):
                pass

    def make_sure(self, duration: timedelta) -> None:
        """Beat, unless the lease covers what takes so long anyway."""
        if self._claim is None:
            return
        age = timedelta(seconds=time.monotonic() - self._beaten)
        # Half a lease is left for what is done with the answer.
        if self._lost or age + duration > self._claim.terms.lease / 2:
            self.beat(duration)
