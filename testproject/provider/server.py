"""Runs the provider in a process and a folder of its own, and closes it whatever happens.

What its process is told and asked goes over HTTP, past the counters.
"""

import functools
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from testproject import gunicorns

from . import gunicorn_conf

ARGUMENTS = ("--config", f"python:{gunicorn_conf.__name__}", "testproject.provider.wsgi")
# Its first reply waits until Django is there and the ledger is ready.
_SECONDS = 30.0


@functools.cache
def _client() -> httpx.Client:
    """Making one takes 30 ms. It keeps no connection: the provider may be killed."""
    return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)


def variables(ledger: str) -> dict[str, str]:
    """The environment of a provider that keeps its ledger there."""
    return gunicorns.environment(
        {"DJANGO_SETTINGS_MODULE": "testproject.provider.settings", "PROVIDER_DATABASE": ledger}
    )


class Provider:
    """A provider that can be told to misbehave, killed, and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self._variables = variables(str(folder / "provider.sqlite3"))
        self._log = folder / "provider.log"
        # The system picks a free one at the first start.
        self._port = 0
        self._server: gunicorns.Server | None = None

    @property
    def address(self) -> str:
        """Where a shop goes: its ``SHOP_PROVIDER_URL``."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, again with the ledger it had; it answers from now on."""
        bind = ("--bind", f"127.0.0.1:{self._port}")
        self._server = gunicorns.start(self._log, self._variables, *bind, *ARGUMENTS)
        self._port = gunicorns.port(self._server, self._log)
        self._ask("GET", "mood")

    def kill(self) -> None:
        """End all of it in the middle of whatever it does, by kill -9."""
        if self._server:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            gunicorns.wait_until_closed(self._port)

    def stop(self) -> None:
        """End it, if it still runs."""
        if self._server:
            gunicorns.stop(self._server)

    def turn(
        self, service: str, mood: str, *, times: int | None = None, seconds: float = 0.0
    ) -> None:
        """Put a service in a mood for so many requests; those that hang take ``seconds``."""
        self._ask("PUT", "mood", {service: {"mood": mood, "times": times, "seconds": seconds}})

    def ledger(self, service: str = "", **details: Any) -> list[dict[str, Any]]:
        """What a service, or all of them, have done, the first first; only what is like this."""
        return _matching(self._ask("GET", "ledger").json()["entries"], service, details)

    def calls(self, service: str = "", **details: Any) -> list[dict[str, Any]]:
        """The requests that reached a service, or all, retries and refused ones included."""
        return _matching(self._ask("GET", "calls").json()["calls"], service, details)

    def hurry(self) -> None:
        """Return when all that has come is served; what hangs does not wait for its time."""
        self._ask("POST", "hurry")

    def reset(self) -> None:
        """Make it forget everything."""
        self._ask("POST", "reset")

    def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = _client().request(method, f"{self.address}/{path}", json=body, timeout=_SECONDS)
        return answer.raise_for_status()


def _matching(
    lines: list[dict[str, Any]], service: str, details: dict[str, Any]
) -> list[dict[str, Any]]:
    wanted = details | ({"service": service} if service else {})
    return [line for line in lines if wanted.items() <= line.items()]


@contextmanager
def open_provider() -> Iterator[Provider]:
    """A provider of its own in a temporary folder, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="provider-", ignore_cleanup_errors=True) as name:
        provider = Provider(Path(name))
        try:
            provider.start()
            yield provider
        finally:
            provider.stop()
