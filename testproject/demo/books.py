"""Counts cakes in two places: the order book (database) and the kitchen log (a plain file)."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Books:
    """The shop's two records of what happened; every scene writes a name of its own in icing."""

    database: Path
    kitchen_log: Path

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as connection:
            yield connection

    def journal_mode(self) -> str:
        """How the database writes: ``wal``, if the shop asked for it."""
        with self._connection() as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])

    def tickets(self, icing: str) -> list[UUID]:
        """The tickets of the cakes that are on the way with this name."""
        query = "SELECT ticket FROM shop_order WHERE icing = ? AND status = 'on-the-way'"
        with self._connection() as connection:
            return [UUID(ticket) for (ticket,) in connection.execute(query, [icing])]

    def attempts(self, key: str) -> int:
        """How many claims of this key there were."""
        return int(self._recorded("attempts", key))

    def lease_end(self, key: str) -> datetime:
        """Until when the claim of this key is trusted without a look at its owner."""
        return datetime.fromisoformat(self._recorded("lease_expires_at", key))

    def completion(self, key: str) -> datetime:
        """When the order with this key was completed."""
        return datetime.fromisoformat(self._recorded("completed_at", key))

    def _recorded(self, column: str, key: str) -> Any:
        query = f"SELECT {column} FROM django_idempotency_idempotencyrecord WHERE key = ?"
        with self._connection() as connection:
            return connection.execute(query, [key]).fetchone()[0]

    def bakings(self, icing: str) -> list[dict[str, Any]]:
        """What the kitchen wrote down about cakes with this name, thrown away or not."""
        lines = self.kitchen_log.read_text().splitlines() if self.kitchen_log.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["icing"] == icing]

    def count(self, icing: str) -> tuple[int, int]:
        """Cakes in the database and bakings in the kitchen log."""
        return len(self.tickets(icing)), len(self.bakings(icing))
