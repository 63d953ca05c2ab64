"""What is true of a transaction or a connection, whatever the database."""

from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .dialects import dialect_of

#: What Django raises when the database cannot be reached.
UNREACHABLE = (OperationalError, InterfaceError)


def own_blocks(connection: BaseDatabaseWrapper) -> list[transaction.Atomic]:
    """The open ``atomic()`` blocks of a connection, without those of a TestCase."""
    blocks = connection.atomic_blocks
    return [block for block in blocks if not getattr(block, "_from_testcase", False)]


def is_doomed(alias: str) -> bool:
    """Whether Django or the database allows nothing but a rollback of the transaction."""
    connection = connections[alias]
    return transaction.get_rollback(alias) or dialect_of(connection).is_aborted(connection)
