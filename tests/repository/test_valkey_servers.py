"""Valkey alone, behind sentinels and as a cluster: what a test may rely on when it breaks them."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket

import pytest

from tests.repository.test_servers import ROOT, exists
from tests.support.patience import HANG_SECONDS, until
from tests.support.servers import (
    DATABASE_VARIABLE,
    LOOPBACK,
    REDIS_VARIABLE,
    UNAVAILABLE,
    Cluster,
    PostgreSQL,
    Sentinel,
    ServerError,
    ServerUnavailableError,
    Valkey,
)
from tests.support.servers.__main__ import all_chosen, main, parse
from tests.support.servers.folders import remove_stale_folders
from tests.support.servers.server import free_port, listens
from tests.support.servers.valkey_wire import ask

redis = pytest.importorskip("redis")


@pytest.fixture(scope="module", autouse=True)
def _program() -> None:
    """The reason for a skip is printed at the end of the run."""
    try:
        Valkey().find()
    except ServerUnavailableError as error:
        pytest.skip(f"Valkey cannot be had: {error}")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A running server that forgets."""
    with Valkey() as server:
        yield server


@pytest.fixture(scope="module")
def sentinel() -> Iterator[Sentinel]:
    """A service whose master the tests crash and freeze."""
    with Sentinel() as service:
        yield service


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster whose masters the tests crash and freeze."""
    with Cluster() as nodes:
        yield nodes


@contextmanager
def within_bounds() -> Iterator[None]:
    """A failover that takes longer than a test can wait for is a failure."""
    start = time.monotonic()
    yield
    # It takes 1 to 3 seconds on an idle machine; an election without a winner, 4 more.
    assert time.monotonic() - start < HANG_SECONDS


def test_command_sees_the_address_and_no_database() -> None:
    """``--redis`` alone starts nothing else and leaves the database that the environment names."""
    script = f"import os; print(os.environ[{REDIS_VARIABLE!r}], os.environ[{DATABASE_VARIABLE!r}])"
    starter = [
        sys.executable,
        "-m",
        "tests.support.servers",
        "--redis",
        "--",
        sys.executable,
        "-c",
        script,
    ]
    environment = {**os.environ, DATABASE_VARIABLE: "sqlite"}
    said = subprocess.check_output(starter, cwd=ROOT, env=environment, text=True)
    assert said.startswith(f"redis://{LOOPBACK}:")
    assert said.split()[1] == "sqlite"


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ([], [PostgreSQL]),
        (["--redis"], [Valkey]),
        (["--database", "postgresql", "--redis"], [PostgreSQL, Valkey]),
    ],
    ids=["neither", "redis", "both"],
)
def test_servers_are_those_asked_for(arguments: list[str], kinds: list[type]) -> None:
    """A database is the default only if no server is named."""
    options = parse([*arguments, "--", "true"])
    assert [type(server) for server in all_chosen(options)] == kinds


def test_missing_program_is_told_apart_from_a_failing_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the program the starter says why and exits with a status of its own."""

    def refuse(*_: str) -> Path:
        raise ServerUnavailableError("nowhere to be found")

    monkeypatch.setattr("tests.support.servers.valkey.fetch", refuse)
    assert main(["--redis", "--", "true"]) == UNAVAILABLE
    assert "nowhere to be found" in capsys.readouterr().err


def test_answers_are_told_apart(valkey: Valkey) -> None:
    """Strings, numbers, lists and nothing come as such; what the server refuses is raised."""
    assert valkey.ask("RPUSH", "cakes", "lemon", "Käse") == 2
    assert valkey.ask("LRANGE", "cakes", "0", "-1") == ["lemon", "Käse"]
    assert valkey.ask("GET", "nothing") is None
    assert valkey.ask("SET", "cake", "") == "OK"
    assert valkey.ask("GET", "cake") == ""
    with pytest.raises(ServerError, match="WRONGTYPE"):
        valkey.ask("GET", "cakes")


def test_second_server_takes_another_port(valkey: Valkey) -> None:
    """Two servers run side by side; one's end leaves nothing of it, and the other alone."""
    with Valkey() as second:
        assert second.port != valkey.port
        assert redis.Redis.from_url(second.url).ping()
    assert not listens(second.port)
    assert not second.folder.exists()
    assert redis.Redis.from_url(valkey.url).ping()


def test_taken_port_is_replaced(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a stranger nor another Valkey on the port is taken for the server."""
    with socket() as squatter:
        squatter.bind((LOOPBACK, 0))
        squatter.listen()
        taken = [squatter.getsockname()[1], valkey.port]
        ports = iter(taken)
        monkeypatch.setattr(
            "tests.support.servers.server.free_port", lambda: next(ports, 0) or free_port()
        )
        with Valkey() as server:
            assert server.port not in taken
            assert server.ask("PING") == "PONG"


@pytest.mark.parametrize(("appendonly", "left"), [("no", None), ("yes", "lemon")])
def test_crashed_server_has_what_it_was_told_to_keep(appendonly: str, left: str | None) -> None:
    """After ``crash()`` a cache is empty, on the same port; with a log nothing is lost."""
    with Valkey({"appendonly": appendonly}) as server:
        port = server.port
        server.ask("SET", "cake", "lemon")
        server.crash()
        assert not listens(port)
        server.start()
        assert server.port == port
        assert server.ask("GET", "cake") == left


def test_frozen_server_takes_connections_and_answers_nothing(valkey: Valkey) -> None:
    """A client of a frozen server waits for its own time-out; thawed, the server has its data."""
    valkey.ask("SET", "cake", "lemon")
    with valkey.frozen():
        assert listens(valkey.port)
        with pytest.raises(TimeoutError):
            ask(LOOPBACK, valkey.port, "GET", "cake", patience=0.3)
        assert not valkey.answers()
    assert valkey.ask("GET", "cake") == "lemon"


def test_frozen_server_can_crash() -> None:
    """The end of the block spares the server that was started meanwhile."""
    with Valkey() as server:
        with server.frozen():
            server.crash()
            server.start()
        assert server.ask("PING") == "PONG"


def test_killed_starter_leaves_no_server_behind() -> None:
    """All servers of a group end with their starter; the next start removes their folders."""
    script = """
        import time
        from tests.support.servers import Sentinel

        with Sentinel(replicas=1, watchers=1) as service:
            for server in (*service.servers, *service.watchers):
                print(server.pid, server.folder, end=" ")
            print(flush=True)
            time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        process.kill()
        process.wait()
    pids, folders = list(map(int, words[::2])), list(map(Path, words[1::2]))
    assert len(pids) == 3
    until(lambda: not any(map(exists, pids)))
    remove_stale_folders()
    assert not any(folder.exists() for folder in folders)


def test_sentinels_name_the_master(sentinel: Sentinel) -> None:
    """A client that knows the sentinels finds the master and the replicas."""
    client = redis.Sentinel(sentinel.addresses)
    assert client.discover_master(sentinel.service) == (LOOPBACK, sentinel.master.port)
    replicas = {port for _, port in client.discover_slaves(sentinel.service)}
    assert replicas == {server.port for server in sentinel.replicas}


def crash(server: Valkey, wait: Callable[[], Valkey]) -> Valkey:
    """Lose a master; the server that replaces it, after the old one was started again."""
    server.crash()
    replacement = wait()
    server.start()
    return replacement


def freeze(server: Valkey, wait: Callable[[], Valkey]) -> Valkey:
    """Lose a master for a while; the server that replaces it."""
    with server.frozen():
        return wait()


LOSSES = pytest.mark.parametrize("lose", [crash, freeze])


@LOSSES
def test_sentinels_replace_a_lost_master(
    sentinel: Sentinel, lose: Callable[[Valkey, Callable[[], Valkey]], Valkey]
) -> None:
    """A replica takes over with the data; the old master comes back as a replica."""
    old = sentinel.master
    old.ask("SET", "cake", lose.__name__)
    assert old.ask("WAIT", "2", "5000") == 2
    with within_bounds():
        new = lose(old, lambda: sentinel.wait_for_other_master(old))
    assert new is not old
    master = redis.Sentinel(sentinel.addresses).master_for(sentinel.service)
    assert master.get("cake") == lose.__name__.encode()
    sentinel.wait_until_whole()
    assert sentinel.master is new
    assert old in sentinel.replicas
    assert old.ask("GET", "cake") == lose.__name__


def test_cluster_shares_the_keys(cluster: Cluster) -> None:
    """A client that knows one node finds them all, and each master has some of the keys."""
    client = redis.RedisCluster.from_url(cluster.url)
    for number in range(30):
        assert client.set(f"cake-{number}", number)
    owners = {cluster.owner(f"cake-{number}").port for number in range(30)}
    assert owners == {node.port for node in client.get_primaries()}
    assert len(owners) == 3
    assert len(client.get_replicas()) == 3


@LOSSES
def test_replica_takes_a_lost_masters_place(
    cluster: Cluster, lose: Callable[[Valkey, Callable[[], Valkey]], Valkey]
) -> None:
    """The replica takes over with the data; the old master comes back as its replica."""
    old = cluster.owner("cake")
    successor = cluster.replica(old)
    old.ask("SET", "cake", lose.__name__)
    assert old.ask("WAIT", "1", "5000") == 1
    with within_bounds():
        new = lose(old, lambda: cluster.wait_for_other_owner("cake", old))
    assert new is successor
    assert redis.RedisCluster.from_url(cluster.url).get("cake") == lose.__name__.encode()
    cluster.wait_until_whole()
    assert cluster.owner("cake") is successor
    assert cluster.replica(successor) is old
