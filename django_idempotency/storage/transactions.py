"""What is true of a transaction or a connection, whatever the database."""

from django.db import InterfaceError, OperationalError, connections, transaction

from .dialects import dialect_of

#: What Django raises when the database cannot be reached.
UNREACHABLE = (OperationalError, InterfaceError)


def is_doomed(alias: str) -> bool:
    """Whether Django or the database allows nothing but a rollback of the transaction."""
    connection = connections[alias]
    return transaction.get_rollback(alias) or dialect_of(connection).is_aborted(connection)
