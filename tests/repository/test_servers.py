"""The starter: its servers answer, take free ports, recover from crashes and never outlive it."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import servers
from tests.support.patience import until
from tests.support.servers.__main__ import chosen, main
from tests.support.servers.folders import remove_stale_folders
from tests.support.servers.programs import installed
from tests.support.servers.server import free_port, listens

ROOT = Path(__file__).parents[2]
# The driver for a URL, and its word for the database.
DRIVERS = {"postgresql": ("psycopg", "dbname"), "mysql": ("pymysql", "database")}
SCHEMES = {"postgresql": "postgresql", "mariadb": "mysql", "pgbouncer": "postgresql"}


@pytest.fixture(scope="module", params=SCHEMES)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server; the reason for a skip is printed at the end of the run."""
    name: str = request.param
    pytest.importorskip(DRIVERS[SCHEMES[name]][0])
    try:
        for server in chosen(name):
            server.find()
    except servers.ServerUnavailableError as error:
        pytest.skip(f"{name} cannot be had: {error}")
    return name


@contextmanager
def started(kind: str) -> Iterator[servers.Server]:
    """A running server of this kind, and what it stands before."""
    with ExitStack() as stack:
        yield [stack.enter_context(server) for server in chosen(kind)][-1]


@pytest.fixture(scope="module")
def running(kind: str) -> Iterator[servers.Server]:
    """A running server that several tests read from."""
    with started(kind) as server:
        yield server


def exists(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def query(server: servers.Server, statement: str) -> str:
    """Run a statement over TCP, as a client would, through the server's own URL."""
    url = urlsplit(server.url)
    driver, database = DRIVERS[url.scheme]
    address: Any = {"host": url.hostname, "port": url.port, database: url.path[1:]}
    connect = pytest.importorskip(driver).connect
    connection = connect(**address, user=url.username, autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return str(cursor.fetchone()[0]) if cursor.description else ""


def hours_ahead(server: servers.MariaDB) -> int:
    """How far the server's clock is ahead of this process's."""
    return round((float(query(server, "SELECT unix_timestamp(now(6))")) - time.time()) / 3600)


def test_command_sees_the_address_and_its_status_is_returned(kind: str) -> None:
    """The command finds the URL in its environment, and its own exit status comes back."""
    script = f"import os; print(os.environ[{servers.DATABASE_VARIABLE!r}]); raise SystemExit(7)"
    starter = [sys.executable, "-m", "tests.support.servers", "--database", kind, "--"]
    command = [*starter, sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    url = urlsplit(done.stdout.strip())
    assert (url.scheme, url.hostname) == (SCHEMES[kind], servers.LOOPBACK)
    assert not listens(int(url.port or 0))


def test_running_server_is_durable(kind: str, running: servers.Server) -> None:
    """Crash tests would prove nothing on a server that does not flush its commits."""
    if kind == "mariadb":
        assert query(running, "SELECT @@innodb_flush_log_at_trx_commit") == "1"
    else:
        settings = ("fsync", "synchronous_commit", "full_page_writes")
        assert {query(running, f"SHOW {name}") for name in settings} == {"on"}


def test_second_server_takes_another_port(kind: str, running: servers.Server) -> None:
    """Two servers run side by side, each with its own port and folder."""
    with started(kind) as second:
        assert second.port != running.port
        assert second.folder != running.folder
        assert query(second, "SELECT 1") == "1"
    assert not listens(second.port)
    assert not second.folder.exists()
    assert query(running, "SELECT 1") == "1"


def test_taken_port_is_replaced(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken before the server binds it costs a second attempt, not the run."""
    *behind, server = chosen(kind)
    with ExitStack() as stack:
        for other in behind:
            stack.enter_context(other)
        squatter = stack.enter_context(socket.socket())
        squatter.bind((servers.LOOPBACK, 0))
        squatter.listen()
        ports = iter([squatter.getsockname()[1]])
        monkeypatch.setattr(
            "tests.support.servers.server.free_port", lambda: next(ports, 0) or free_port()
        )
        stack.enter_context(server)
        assert server.port != squatter.getsockname()[1]
        assert query(server, "SELECT 1") == "1"


def test_crashed_server_recovers_what_was_committed(kind: str) -> None:
    """After ``crash()`` the server restarts on the same port with every committed row."""
    with started(kind) as server:
        port = server.port
        query(server, "CREATE TABLE cake AS SELECT 1 AS id")
        server.crash()
        assert not listens(port)
        server.start()
        assert server.port == port
        assert query(server, "SELECT count(*) FROM cake") == "1"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_killed_starter_leaves_no_server_behind(kind: str, number: signal.Signals) -> None:
    """The server ends with its starter, and the next start removes the folder it left."""
    script = f"""
        import time
        from tests.repository.test_servers import started

        with started({kind!r}) as server:
            print(server.pid, server.port, server.folder, flush=True)
            time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, port, folder = process.stdout.readline().split()
        assert listens(int(port))
        process.send_signal(number)
        process.wait()
    until(lambda: not exists(int(pid)))
    assert not listens(int(port))
    remove_stale_folders()
    assert not Path(folder).exists()


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_killed_starter_with_a_forked_child_leaves_no_server_behind(kind: str) -> None:
    """A child that inherited the starter's pipe does not keep the server alive."""
    script = f"""
        import os, time
        from tests.repository.test_servers import started

        with started({kind!r}) as server:
            child = os.fork()
            if child == 0:
                time.sleep(600)
            print(server.pid, child, flush=True)
            time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, child = map(int, process.stdout.readline().split())
        process.kill()
        process.wait()
        try:
            until(lambda: not exists(pid))
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_killed_keeper_leaves_no_server_behind(kind: str) -> None:
    """Even the process between the starter and its server may be killed."""
    with started(kind) as server:
        pid = server.pid
        keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not exists(pid))


def test_living_starter_keeps_its_folder(running: servers.Server) -> None:
    """Another starter's sweep spares the folders of those that live."""
    sweep = "from tests.support.servers.folders import remove_stale_folders; remove_stale_folders()"
    subprocess.run([sys.executable, "-c", sweep], cwd=ROOT, check=True)
    assert running.folder.exists()
    assert query(running, "SELECT 1") == "1"


def test_options_and_clock_reach_the_server() -> None:
    """A test may ask for a MariaDB in another time zone and a day ahead, and set it right again."""
    with ExitStack() as stack:
        try:
            ahead = servers.shifted_clock("+1d")
            zone = {"default-time-zone": "-06:00"}
            server = stack.enter_context(servers.MariaDB(zone, ahead))
        except servers.ServerUnavailableError as error:
            pytest.skip(str(error))
        assert hours_ahead(server) == 24
        assert query(server, "SELECT timestampdiff(HOUR, utc_timestamp(), now())") == "-6"
        server.stop()
        server.environment.clear()
        server.start()
        assert hours_ahead(server) == 0


@pytest.mark.parametrize(
    ("database", "missing"),
    [
        ("postgresql", "tests.support.servers.postgresql.fetch"),
        ("mariadb", "tests.support.servers.mariadb.installed"),
        ("pgbouncer", "tests.support.servers.pgbouncer.installed"),
    ],
)
def test_missing_programs_are_told_apart_from_a_failing_command(
    database: str,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without the programs the starter says why and exits with a status of its own."""

    def refuse(*_: str, **__: str) -> Path:
        raise servers.ServerUnavailableError("nowhere to be found")

    monkeypatch.setattr(missing, refuse)
    assert main(["--database", database, "--", "true"]) == servers.UNAVAILABLE
    assert "nowhere to be found" in capsys.readouterr().err


def test_missing_program_names_the_remedy() -> None:
    """The error says how to get a missing program."""
    with pytest.raises(servers.ServerUnavailableError, match="apt install cake-server"):
        installed("caked", remedy="apt install cake-server")
