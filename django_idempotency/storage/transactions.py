"""What can be said of a transaction or a connection, whatever the database."""

from django.db import InterfaceError, OperationalError, connections, transaction

from .dialects import dialect_of

#: What a database that is not there makes Django raise.
UNREACHABLE = (OperationalError, InterfaceError)


def is_doomed(alias: str) -> bool:
    """Whether the transaction can only be rolled back, for Django or for the database."""
    connection = connections[alias]
    return transaction.get_rollback(alias) or dialect_of(connection).is_aborted(connection)
