"""The steps of one operation in the database: their statements, and one method for each.

All steps are loaded at once, and written under the record's lock. What is run when is for
:mod:`django_idempotency.durable.checkpoints` to decide.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..models import StepKind, StepStatus
from .dialects import Dialect
from .records import Store, texts_of
from .statements import GUARD, Words

_OVER = f"'{StepStatus.COMPLETED.value}', '{StepStatus.FAILED.value}'"


class StepTexts(Words):
    """The statements of the steps of one operation."""

    _COLUMNS = ("name", "kind", "status", "attempt", "input_digest", "output", "codec", "error")
    _CHANGES = ("status", "attempt", "input_digest", "output", "codec", "error")

    def __init__(self, dialect: Dialect, quote: Callable[[str], str]) -> None:
        super().__init__(dialect, quote)
        names = ", ".join(self._quoted[name] for name in self._COLUMNS)
        self.load = f"SELECT {names} FROM {self._steps} WHERE record_id = %(id)s"
        beat = {
            "table": self._table,
            "changes": f"lease_expires_at = {dialect.later.format('lease')}",
            "condition": GUARD,
        }
        if dialect.marks:
            beat["changes"] += ", error = %(mark)s"
        self.beat = dialect.update.format(**beat)
        self.beat_nowait = dialect.update_nowait.format(**beat)
        # In the view's own transaction its first statement has left the mark.
        marked = f"{GUARD} AND error = %(mark)s" if dialect.marks else GUARD
        self.add, self.add_marked = self._add(GUARD), self._add(marked)
        self.change, self.change_marked = self._change(GUARD), self._change(marked)

    def _times(self) -> dict[str, str]:
        now = self._dialect.now
        return {
            "started_at": self._dialect.later.format("began"),
            "completed_at": f"CASE WHEN %(over)s THEN {now} ELSE NULL END",
        }

    def _add(self, guard: str) -> str:
        values = {"record_id": "id"}
        values |= {self._quoted[name]: self._param(name) for name in self._COLUMNS}
        values |= {"token": "token"} | self._times()
        return (
            f"INSERT INTO {self._steps} ({', '.join(values)})"
            f" SELECT {', '.join(values.values())} FROM {self._table} WHERE {guard}"
        )

    def _change(self, guard: str) -> str:
        values = {self._quoted[name]: self._param(name) for name in self._CHANGES}
        values |= {"token": self._param("owner")} | self._times()
        changes = ", ".join(f"{name} = {value}" for name, value in values.items())
        return (
            f"UPDATE {self._steps} SET {changes}"
            f" WHERE record_id = %(id)s AND {self._quoted['name']} = %(name)s"
            f" AND status NOT IN ({_OVER})"
            f" AND EXISTS (SELECT 1 FROM {self._table} WHERE {guard})"
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A step as it is recorded.

    ``digest`` is the SHA-256 of its arguments, ``output`` its result in JSON, encoded with
    ``codec``, and ``took`` how long its last run lasted.
    """

    name: str
    kind: StepKind
    status: StepStatus
    attempt: int
    digest: bytes
    output: bytes | None = None
    codec: str = ""
    error: str = ""
    took: timedelta = timedelta()


class Journal(Store):
    """The steps of operations on one database alias."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._step_texts: StepTexts = texts_of(StepTexts, alias)[1]

    def load(self, record: uuid.UUID) -> dict[str, Entry]:
        """The steps of an operation, by their names."""
        with self.connection.cursor() as cursor:
            cursor.execute(self._step_texts.load, {"id": self.dialect.uuid(record)})
            return {row[0]: _entry(row) for row in cursor.fetchall()}

    def beat(
        self,
        record: uuid.UUID,
        token: uuid.UUID,
        lease: timedelta,
        *,
        wait: float | None,
        mark: str,
    ) -> bool:
        """The row is locked and the lease extended, if the claim is still this owner's.

        ``wait`` is as for :meth:`lock`. ``mark`` tells this transaction from every other.
        """
        text = self._step_texts.beat_nowait if wait is None else self._step_texts.beat
        params = {"lease": self.dialect.duration(lease), "mark": mark}
        return self._lock_row(text, self._owner_params(record, token) | params, wait)

    def add(self, record: uuid.UUID, token: uuid.UUID, entry: Entry, *, mark: str) -> bool:
        """Record a step; False if the claim is not this owner's any more.

        ``mark`` is that of the :meth:`beat` of this transaction; empty if there was none.
        """
        text = self._step_texts.add_marked if mark else self._step_texts.add
        return self._execute(text, self._step_params(record, token, entry) | {"mark": mark}) == 1

    def change(self, record: uuid.UUID, token: uuid.UUID, entry: Entry, *, mark: str) -> bool:
        """Record what became of a step that is not over; False as for :meth:`add`."""
        text = self._step_texts.change_marked if mark else self._step_texts.change
        return self._execute(text, self._step_params(record, token, entry) | {"mark": mark}) == 1

    def _step_params(self, record: uuid.UUID, token: uuid.UUID, entry: Entry) -> dict[str, Any]:
        return self._owner_params(record, token) | {
            "name": entry.name,
            "kind": entry.kind.value,
            "status": entry.status.value,
            "attempt": entry.attempt,
            "input_digest": entry.digest,
            "output": entry.output,
            "codec": entry.codec,
            "error": entry.error[:255],
            "began": self.dialect.duration(-entry.took),
            "over": entry.status is StepStatus.COMPLETED or entry.status is StepStatus.FAILED,
        }


def _entry(row: Sequence[Any]) -> Entry:
    name, kind, status, attempt, digest, output, codec, error = row
    encoded = None if output is None else bytes(output)
    return Entry(
        name, StepKind(kind), StepStatus(status), attempt, bytes(digest), encoded, codec, error
    )
