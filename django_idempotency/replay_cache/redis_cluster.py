"""Redis Cluster behind django-redis, which has no client for it, by its CONNECTION_FACTORY.

::

    CACHES = {
        "idempotency": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": "cluster",
            "OPTIONS": {
                "CONNECTION_FACTORY":
                    "django_idempotency.replay_cache.redis_cluster.ClusterConnectionFactory",
                "CLUSTER": [("10.0.0.1", 6379), ("10.0.0.2", 6379), ("10.0.0.3", 6379)],
                "SOCKET_CONNECT_TIMEOUT": 0.1,
                "SOCKET_TIMEOUT": 0.1,
            },
        }
    }
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from django_redis.pool import ConnectionFactory
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

Address = tuple[str, int]


@cache
def _client(addresses: tuple[Address, ...], options: tuple[tuple[str, Any], ...]) -> Any:
    """One client for the whole process: it knows whose slots are whose, and has the connections."""
    nodes = [ClusterNode(host, port) for host, port in addresses]  # type: ignore[no-untyped-call]
    # Ten times by default, with a time-out and a new look at the whole cluster each time.
    retry = Retry(NoBackoff(), 0)
    return RedisCluster(startup_nodes=nodes, retry=retry, **dict(options))


class ClusterConnectionFactory(ConnectionFactory):  # type: ignore[misc]
    """``OPTIONS["CLUSTER"]`` names some of the nodes, as pairs of host and port.

    ``LOCATION`` is one word; a list would be read as a primary and its replicas. Each key of one
    record lies in one slot.
    """

    def connect(self, url: str) -> Any:
        """The process's client; ``url`` says nothing."""
        given: Sequence[Sequence[Any]] = self.options["CLUSTER"]
        addresses = tuple((str(host), int(port)) for host, port in given)
        params = self.make_connection_params(url)
        kept = {name: params[name] for name in params if name not in ("url", "parser_class")}
        return _client(addresses, tuple(sorted((kept | self.redis_client_cls_kwargs).items())))

    def disconnect(self, connection: Any) -> None:
        """Close its connections."""
        connection.disconnect_connection_pools()
