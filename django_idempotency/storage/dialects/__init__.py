"""What differs between the databases: their clocks, their locks, their errors.

A :class:`Dialect` holds fragments of SQL, which the other modules of ``storage`` make statements
of, and knows error codes.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from .mysql import MariaDB, MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite
from .standard import Dialect

__all__ = ["DIALECTS", "Dialect", "MariaDB", "MySQL", "PostgreSQL", "SQLite", "dialect_of"]

DIALECTS: dict[str, type[Dialect]] = {
    "postgresql": PostgreSQL,
    "mariadb": MariaDB,
    "mysql": MySQL,
    "sqlite": SQLite,
}


def dialect_of(connection: BaseDatabaseWrapper) -> Dialect:
    """The dialect of ``connection``; standard SQL for a database that cannot store records."""
    return DIALECTS.get(getattr(connection, "display_name", "").lower(), Dialect)()
