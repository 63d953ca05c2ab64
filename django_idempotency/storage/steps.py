"""The steps of one operation in the database: loaded at once, written under the record's lock.

One method is one statement, as in :mod:`.store`; when which is run is for :mod:`.steps` to decide.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import (
    StepKind,
    StepStatus,
)
from .dialects import Dialect, dialect_of
from .records import Store
from .statements import _GUARD, _OVER, _Words


class StepTexts(_Words):
    """The statements of the steps of one operation, for one alias."""

    _COLUMNS = ("name", "kind", "status", "attempt", "input_digest", "output", "codec", "error")
    _CHANGES = ("status", "attempt", "input_digest", "output", "codec", "error")

    def __init__(self, connection: BaseDatabaseWrapper, dialect: Dialect) -> None:
        super().__init__(connection, dialect)
        self.load = (
            f"SELECT {', '.join(map(self._quote, self._COLUMNS))} FROM {self.steps}"
            " WHERE record_id = %(id)s"
        )
        beat = {
            "table": self.table,
            "changes": f"lease_expires_at = {dialect.later.format('lease')}",
            "condition": _GUARD,
        }
        if dialect.marks:
            beat["changes"] += ", error = %(mark)s"
        self.beat = dialect.update.format(**beat)
        self.beat_nowait = dialect.update_nowait.format(**beat)
        # In the view's own transaction its first statement has left the mark.
        marked = f"{_GUARD} AND error = %(mark)s" if dialect.marks else _GUARD
        self.add, self.add_marked = self._add(_GUARD), self._add(marked)
        self.change, self.change_marked = self._change(_GUARD), self._change(marked)

    def _times(self) -> dict[str, str]:
        now = self._dialect.now
        return {
            "started_at": self._dialect.later.format("began"),
            "completed_at": f"CASE WHEN %(over)s THEN {now} ELSE NULL END",
        }

    def _add(self, guard: str) -> str:
        values = {"record_id": "id"}
        values |= {self._quote(name): self._value(name) for name in self._COLUMNS}
        values |= {"token": "token"} | self._times()
        return (
            f"INSERT INTO {self.steps} ({', '.join(values)})"
            f" SELECT {', '.join(values.values())} FROM {self.table} WHERE {guard}"
        )

    def _change(self, guard: str) -> str:
        values = {self._quote(name): self._value(name) for name in self._CHANGES}
        values |= {"token": self._value("holder")} | self._times()
        changes = ", ".join(f"{name} = {value}" for name, value in values.items())
        return (
            f"UPDATE {self.steps} SET {changes}"
            f" WHERE record_id = %(id)s AND {self._quote('name')} = %(name)s"
            f" AND status NOT IN ({_OVER})"
            f" AND EXISTS (SELECT 1 FROM {self.table} WHERE {guard})"
        )


@cache
def _words(alias: str) -> StepTexts:
    connection = connections[alias]
    return StepTexts(connection, dialect_of(connection))


@dataclass(frozen=True, slots=True)
class Entry:
    """A step as it is recorded.

    ``digest`` is the SHA-256 of its arguments, ``output`` its result in JSON, encoded as ``codec``
    says, and ``took`` how long its last run lasted.
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

    def but(self, status: StepStatus, **changes: Any) -> "Entry":
        """The same step in another status."""
        return replace(self, status=status, **changes)


class Journal(Store):
    """The steps on one database alias."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._steps = _words(alias)

    def load(self, record: uuid.UUID) -> dict[str, Entry]:
        """The steps of an operation, by their names."""
        with self.connection.cursor() as cursor:
            cursor.execute(self._steps.load, {"id": self.dialect.uuid(record)})
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
        """Hold the row until the transaction ends, and trust its claim for so long from now on.

        Whether it still is this owner's. ``wait`` is in seconds; None waits for nothing, and raises
        RowLockedError. ``mark`` tells the transaction from every other.
        """
        text = self._steps.beat_nowait if wait is None else self._steps.beat
        params = {"lease": self.dialect.duration(lease), "mark": mark}
        return self._hold(text, self._held(record, token) | params, wait)

    def add(self, record: uuid.UUID, token: uuid.UUID, entry: Entry, *, mark: str) -> bool:
        """Record a step; False if the record is not this owner's.

        ``mark`` is that of the transaction's heartbeat; empty in one that began otherwise.
        """
        text = self._steps.add_marked if mark else self._steps.add
        return self._execute(text, self._written(record, token, entry) | {"mark": mark}) == 1

    def change(self, record: uuid.UUID, token: uuid.UUID, entry: Entry, *, mark: str) -> bool:
        """Record what has become of a step that is not over; False as :meth:`add`."""
        text = self._steps.change_marked if mark else self._steps.change
        return self._execute(text, self._written(record, token, entry) | {"mark": mark}) == 1

    def _written(self, record: uuid.UUID, token: uuid.UUID, entry: Entry) -> dict[str, Any]:
        return self._held(record, token) | {
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
