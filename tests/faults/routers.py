"""A project that reads from a replica."""

from typing import Any


class LaggingReplica:
    """Every read goes to ``other``, which no write has reached yet."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"
