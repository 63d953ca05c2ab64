"""A Valkey master, its replicas, and the sentinels that replace a lost master."""

from collections.abc import Mapping

from .errors import ServerError
from .server import LOOPBACK
from .valkey import Valkey
from .valkey_group import Group, answering, by_port, wait_until

# Milliseconds. Sentinels greet each other every 2 s and look at the servers every 10 s, too seldom
# for a test; on a busy machine they are late, and by default would then trust nothing for 30 s.
# A new link is first pinged after one period, which must be over well before the silence counts as
# death; only a replica that spoke of itself within five periods is elected, and it does so each
# second.
PACE = {
    "ping-period": "300",
    "publish-period": "200",
    "info-period": "500",
    "ask-period": "200",
    "min-link-reconnect-period": "500",
    "tilt-trigger": "20000",
}


class Watcher(Valkey):
    """One sentinel; its file names the master it watches."""

    defaults = {"bind": LOOPBACK, "protected-mode": "no"}

    def command(self) -> list[str]:
        """``valkey-server`` as a sentinel."""
        return [str(self.program), str(self.file), "--sentinel", *self.settings()]

    def start(self) -> None:
        super().start()
        # Forgotten at its end, unlike what stands in the file.
        self.ask("SENTINEL", "DEBUG", *(word for pair in PACE.items() for word in pair))


class Sentinel(Group):
    """A service that a client finds by way of its sentinels; a failover takes 1 to 3 s.

    ``master.crash()`` or ``with master.frozen()`` begins one, ``wait_for_other_master`` sees its
    end. A crashed master that is started again becomes a replica; its data is the new master's.
    """

    name = "the service"
    service = "idempotency"

    def __init__(
        self,
        replicas: int = 2,
        watchers: int = 3,
        *,
        down_after: int = 800,
        failover_timeout: int = 2000,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Milliseconds until silence counts as death, and until a failover is tried again."""
        super().__init__()
        self.counts = (replicas, watchers)
        self.waits = {"down-after-milliseconds": down_after, "failover-timeout": failover_timeout}
        # By default a master waits 5 s for more replicas before it copies its data to one.
        self.options = {"repl-diskless-sync-delay": "0", **(options or {})}
        self.servers: list[Valkey] = []
        self.watchers: list[Watcher] = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels are."""
        return [(LOOPBACK, watcher.port) for watcher in self.watchers]

    @property
    def url(self) -> str:
        """The service's first database, as clients write it that know the sentinels."""
        return f"redis://{self.service}/0"

    @property
    def master(self) -> Valkey:
        """The server that all answering sentinels name; raises ServerError if they disagree."""
        named = self.named()
        if len(named) != 1:
            raise ServerError(f"the sentinels name {len(named)} masters")
        return by_port(self.servers, named.pop())

    @property
    def replicas(self) -> list[Valkey]:
        """All servers but the master."""
        return [server for server in self.servers if server is not self.master]

    def form(self) -> None:
        replicas, watchers = self.counts
        master = self.begin(Valkey(self.options))
        self.servers = [master]
        follow = f"replicaof {LOOPBACK} {master.port}\n"
        for _ in range(replicas):
            self.servers.append(self.begin(Valkey(self.options, configuration=follow)))
        # A sentinel that starts before the replicas are there finds them only later.
        wait_until(self.is_replicated, "the replicas have no master")
        monitor = self.monitor(master, quorum=watchers // 2 + 1)
        for _ in range(watchers):
            self.watchers.append(self.begin(Watcher(configuration=monitor)))
        self.wait_until_whole()

    def monitor(self, master: Valkey, quorum: int) -> str:
        """A sentinel's file."""
        waits = [f"sentinel {name} {self.service} {ms}" for name, ms in self.waits.items()]
        first = f"sentinel monitor {self.service} {LOOPBACK} {master.port} {quorum}"
        return "\n".join([first, *waits, ""])

    def named(self) -> set[int]:
        """The ports of the masters that the sentinels name."""
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return {int(watcher.ask(*question)[1]) for watcher in answering(self.watchers)}

    def is_replicated(self) -> bool:
        """Whether there is one master, and every other server is in touch with it."""
        told = [server.info("replication") for server in self.servers]
        links = [one.get("master_link_status") for one in told if one["role"] == "slave"]
        return links == ["up"] * (len(self.servers) - 1)

    def is_whole(self) -> bool:
        """Whether replication works and every sentinel knows all servers and all sentinels."""
        known = f"status=ok,address={LOOPBACK}:{self.master.port},slaves={len(self.servers) - 1},"
        known += f"sentinels={len(self.watchers)}"
        views = [watcher.info("sentinel") for watcher in self.watchers]
        return self.is_replicated() and all(known in view["master0"] for view in views)

    def wait_for_other_master(self, than: Valkey) -> Valkey:
        """The master that the sentinels agree on instead; raises ServerError."""

        def replaced() -> bool:
            master = self.master
            return master is not than and master.info("replication")["role"] == "master"

        wait_until(replaced, f"{self.service} has no other master")
        return self.master
