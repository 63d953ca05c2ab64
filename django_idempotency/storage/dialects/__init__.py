"""What each database says differently: its clock, its locks, its errors.

A :class:`Dialect` holds fragments of SQL and reads error codes; :mod:`~.statements` and
:mod:`~.store` make statements of them.
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
    """What ``connection`` speaks; standard SQL where records are not supported."""
    return DIALECTS.get(getattr(connection, "display_name", "").lower(), Dialect)()
