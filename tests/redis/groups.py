"""The ways to run a Redis, and what a test can do to each of them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from tests.support.servers import Cluster, Sentinel, Valkey

#: The key whose node in a cluster is the one that tests break.
_KEY = "idempotency"


class Group(Protocol):
    """One server or several, seen as one cache."""

    @property
    def url(self) -> str:
        """Its address, for ``IDEMPOTENCY_TEST_REDIS``."""

    @property
    def servers(self) -> Sequence[Valkey]:
        """All servers that a client may ask, sentinels among them."""

    def first(self) -> Valkey:
        """A server whose loss makes requests fail."""

    def recover(self, lost: Valkey) -> None:
        """Return when the cache works again without that server."""

    def gather(self) -> None:
        """Return when every server has found the others again."""

    def flush(self) -> None:
        """Every server that accepts it is empty."""


def _addresses(pairs: list[tuple[str, int]]) -> str:
    return ",".join(f"{host}:{port}" for host, port in pairs)


def _flush(servers: Sequence[Valkey]) -> None:
    for server in servers:
        # A replica refuses, and does what its master does.
        with contextlib.suppress(Exception):
            server.ask("FLUSHALL")


class Alone:
    """One server."""

    def __init__(self, server: Valkey) -> None:
        self.server = server
        self.servers = [server]
        self.url = server.url

    def first(self) -> Valkey:
        return self.server

    def recover(self, lost: Valkey) -> None:
        """No other server takes its place."""

    def gather(self) -> None:
        """There are no others."""

    def flush(self) -> None:
        _flush(self.servers)


class BehindSentinels:
    """A master and its replicas."""

    def __init__(self, service: Sentinel) -> None:
        self.service = service
        self.servers = [*service.servers, *service.watchers]
        self.url = f"sentinel://{_addresses(service.addresses)}/{service.service}"

    def first(self) -> Valkey:
        return self.service.master

    def recover(self, lost: Valkey) -> None:
        self.service.wait_for_other_master(lost)

    def gather(self) -> None:
        self.service.wait_until_whole()

    def flush(self) -> None:
        _flush(self.servers)


class InCluster:
    """Masters that share the keys."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.servers = cluster.nodes
        self.url = f"cluster://{_addresses(cluster.addresses)}"

    def first(self) -> Valkey:
        return self.cluster.owner(_KEY)

    def recover(self, lost: Valkey) -> None:
        (node,) = (node for node in self.cluster.nodes if node is lost)
        self.cluster.wait_for_other_owner(_KEY, node)

    def gather(self) -> None:
        self.cluster.wait_until_whole()

    def flush(self) -> None:
        _flush(self.servers)


@contextmanager
def _alone() -> Iterator[Group]:
    with Valkey() as server:
        yield Alone(server)


@contextmanager
def _behind_sentinels() -> Iterator[Group]:
    with Sentinel() as service:
        yield BehindSentinels(service)


@contextmanager
def _in_cluster() -> Iterator[Group]:
    with Cluster() as cluster:
        yield InCluster(cluster)


#: By name, as the hammer's ``--cache`` has them.
GROUPS: dict[str, Callable[[], contextlib.AbstractContextManager[Group]]] = {
    "valkey": _alone,
    "sentinel": _behind_sentinels,
    "cluster": _in_cluster,
}
