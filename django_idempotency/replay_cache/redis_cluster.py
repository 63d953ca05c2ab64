"""Redis Cluster for django-redis, which has no client for it; set as its CONNECTION_FACTORY."""

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
    """The process's only client: it knows which node has which slots, and keeps connections."""
    nodes = [ClusterNode(host, port) for host, port in addresses]  # type: ignore[no-untyped-call]
    # By default it would try ten times, each with a time-out and a new look at the whole cluster.
    retry = Retry(NoBackoff(), 0)
    return RedisCluster(startup_nodes=nodes, retry=retry, **dict(options))


class ClusterConnectionFactory(ConnectionFactory):  # type: ignore[misc]
    """Connects to a cluster, of which ``OPTIONS["CLUSTER"]`` names some nodes: (host, port).

    ``LOCATION`` must be one word: django-redis takes a list for a primary and its replicas. All
    keys of one record lie in the same slot.
    """

    def connect(self, url: str) -> Any:
        """The process's client; ``url`` is not used to find the nodes."""
        given: Sequence[Sequence[Any]] = self.options["CLUSTER"]
        addresses = tuple((str(host), int(port)) for host, port in given)
        params = self.make_connection_params(url)
        kept = {name: params[name] for name in params if name not in ("url", "parser_class")}
        return _client(addresses, tuple(sorted((kept | self.redis_client_cls_kwargs).items())))

    def disconnect(self, connection: Any) -> None:
        """The connections of the process's client are closed."""
        connection.disconnect_connection_pools()
