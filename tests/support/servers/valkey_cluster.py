"""A Valkey Cluster: masters that share the keys, each with a replica that replaces it when lost."""

from collections.abc import Mapping
from itertools import pairwise

from .errors import ServerError
from .server import LOOPBACK
from .valkey import Valkey
from .valkey_group import Group, answering, by_port, wait_until
from .valkey_wire import facts

SLOTS = 16384

# The nodes' own bus is, by convention, this far from the clients' port.
BUS_DISTANCE = 10_000
LAST_PORT = 65_535


class Node(Valkey):
    """One node; what it knows of the others survives a crash in its ``nodes.conf``."""

    # The validity factor lets every replica stand for election, however long its link was down.
    # The cluster names a replica to clients once it has heard from its master: so each second.
    defaults = {
        **Valkey.defaults,
        "cluster-enabled": "yes",
        "cluster-node-timeout": "500",
        "cluster-replica-validity-factor": "0",
        "repl-diskless-sync-delay": "0",
        "repl-ping-replica-period": "1",
    }

    @property
    def bus_port(self) -> int:
        """Another port of this node's, for the others; one that is taken fails the start."""
        above = self.port + BUS_DISTANCE
        return above if above <= LAST_PORT else self.port - BUS_DISTANCE

    def settings(self) -> list[str]:
        return [*super().settings(), "--cluster-port", str(self.bus_port)]


class Cluster(Group):
    """Three masters and a replica of each; a promotion takes 1 to 3 s.

    ``owner(key).crash()`` or ``with owner(key).frozen()`` begins one, ``wait_for_other_owner`` sees
    its end. A crashed master that is started again becomes its replacement's replica.
    """

    name = "the cluster"

    def __init__(self, masters: int = 3, options: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.masters = masters
        self.options = options
        self.nodes: list[Node] = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the nodes are; a client needs one that runs."""
        return [(LOOPBACK, node.port) for node in self.nodes]

    @property
    def url(self) -> str:
        """One node; a cluster has the one database."""
        return self.nodes[0].url

    def form(self) -> None:
        self.nodes = [self.begin(Node(self.options)) for _ in range(2 * self.masters)]
        masters, replicas = self.nodes[: self.masters], self.nodes[self.masters :]
        self.share_out(masters)
        self.introduce()
        for master, replica in zip(masters, replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", master.ask("CLUSTER", "MYID"))
        self.wait_until_whole()

    def share_out(self, masters: list[Node]) -> None:
        """Give each master its part of the slots."""
        bounds = [SLOTS * part // len(masters) for part in range(len(masters) + 1)]
        for master, (first, end) in zip(masters, pairwise(bounds), strict=True):
            master.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))

    def introduce(self) -> None:
        """Make the nodes known to each other; their epochs differ, or they would have to vote."""
        for epoch, node in enumerate(self.nodes, 1):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(epoch))
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", LOOPBACK, str(node.port), str(node.bus_port))
        wait_until(self.is_introduced, "the nodes do not know each other")

    def is_introduced(self) -> bool:
        """Whether each node knows all others and no handshake is under way."""
        return all(
            len(lines) == len(self.nodes) and not any("handshake" in line for line in lines)
            for lines in (node.ask("CLUSTER", "NODES").splitlines() for node in self.nodes)
        )

    def is_whole(self) -> bool:
        """Whether every node tells its clients of all masters, and of a replica of each."""
        told = [node.info("replication") for node in self.nodes]
        links = [one.get("master_link_status") for one in told if one["role"] == "slave"]
        return links == ["up"] * (len(self.nodes) - self.masters) and all(
            is_ok(node) and {len(places) for _, _, *places in node.ask("CLUSTER", "SLOTS")} == {2}
            for node in self.nodes
        )

    def owner(self, key: str) -> Node:
        """The master that has ``key``, on which all nodes that answer agree; else ServerError."""
        owners = {owner_seen_by(node, key) for node in answering(self.nodes)}
        if len(owners) != 1:
            raise ServerError(f"the nodes disagree on {key}")
        return by_port(self.nodes, owners.pop())

    def replica(self, master: Node) -> Node:
        """The node that will replace ``master``."""
        for node in answering(self.nodes):
            if node.info("replication").get("master_port") == str(master.port):
                return node
        raise ServerError(f"the master on port {master.port} has no replica")

    def wait_for_other_owner(self, key: str, than: Node) -> Node:
        """The master that has ``key`` instead, in a cluster that works; raises ServerError."""

        def replaced() -> bool:
            return self.owner(key) is not than and all(map(is_ok, answering(self.nodes)))

        wait_until(replaced, f"{key} has no other owner")
        return self.owner(key)


def is_ok(node: Node) -> bool:
    """Whether this node takes commands for all keys, its own or a neighbour's."""
    return facts(node.ask("CLUSTER", "INFO"))["cluster_state"] == "ok"


def owner_seen_by(node: Node, key: str) -> int:
    """The port of the master that has ``key``, as ``node`` sees it; 0 for none."""
    slot = node.ask("CLUSTER", "KEYSLOT", key)
    for first, last, master, *_ in node.ask("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return int(master[1])
    return 0
