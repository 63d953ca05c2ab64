"""The real servers the tests talk to: they start in a moment and stop whatever happens.

``with PostgreSQL() as server`` starts one on a free port, in a folder of its own;
``python -m tests.support.servers -- COMMAND ...`` does the same from the command line. Another
server is one more subclass of :class:`Server`.

A server never outlives its starter: a keeper (``keeper.py``) stands between the two.
"""

from .clock import shifted_clock
from .errors import ServerError, ServerStartError, ServerUnavailableError
from .mariadb import MariaDB
from .pgbouncer import PgBouncer
from .postgresql import PostgreSQL
from .server import DATABASE_VARIABLE, LOOPBACK, UNAVAILABLE, Server
from .valkey import REDIS_VARIABLE, Valkey
from .valkey_cluster import Cluster
from .valkey_sentinel import Sentinel

__all__ = [
    "DATABASE_VARIABLE",
    "LOOPBACK",
    "REDIS_VARIABLE",
    "UNAVAILABLE",
    "Cluster",
    "MariaDB",
    "PgBouncer",
    "PostgreSQL",
    "Sentinel",
    "Server",
    "ServerError",
    "ServerStartError",
    "ServerUnavailableError",
    "Valkey",
    "shifted_clock",
]
