"""Stands between the workers and the database, and cuts connections where it hurts.

``python -m tests.chaos.proxy PORT`` listens on a port of its own, which is its first line of
output, and passes everything on to PORT. A line on standard input asks for a cut (a
:class:`~.plan.Kind`, a victim's number, seconds); every cut made is a line of output. It ends with
its standard input.
"""

import asyncio
import sys
from collections import deque
from typing import Any

from .plan import Kind

# Both databases' clients send it as the text of a simple query; PostgreSQL's header has 5 bytes,
# MariaDB's 5, too.
_COMMIT = b"COMMIT"
_NEAR = 32
_AND_COMMIT = b"; COMMIT\0"
_CLAIM = (b"INSERT INTO", b"django_idempotency_idempotencyrecord")


def _is_commit(data: bytes) -> bool:
    # PostgreSQL's may follow the statement that settles the record, in the same message.
    return _COMMIT in data[:_NEAR] or data.endswith(_AND_COMMIT)


def _is_claim(data: bytes) -> bool:
    return all(part in data[:200] for part in _CLAIM)


class Proxy:
    """The pairs of connections there are, and the cuts that wait for their moment."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pairs: dict[Near, None] = {}
        self.armed: dict[Kind, deque[float]] = {
            Kind.CUT_CLAIM: deque(),
            Kind.CUT_BEFORE_COMMIT: deque(),
            Kind.CUT_AFTER_COMMIT: deque(),
            Kind.LATE_COMMIT: deque(),
        }

    def order(self, line: str) -> None:
        """Cut at once, or arm the cut."""
        name, victim, seconds = line.split()
        kind = Kind(name)
        if kind in self.armed:
            self.armed[kind].append(float(seconds))
            return
        pairs = list(self.pairs)
        if kind is Kind.CUT_ONE and pairs:
            pairs = [pairs[int(victim) % len(pairs)]]
        for near in pairs:
            near.cut()
        if pairs:
            print(kind, flush=True)

    def cut_at(self, data: bytes) -> tuple[Kind, float] | None:
        """The cut that is due when a worker sends ``data``."""
        kinds: tuple[Kind, ...] = ()
        if _is_commit(data):
            kinds = (Kind.CUT_BEFORE_COMMIT, Kind.CUT_AFTER_COMMIT, Kind.LATE_COMMIT)
        elif _is_claim(data):
            kinds = (Kind.CUT_CLAIM,)
        for kind in kinds:
            if self.armed[kind]:
                print(kind, flush=True)
                return kind, self.armed[kind].popleft()
        return None


class Far(asyncio.Protocol):
    """The connection to the database."""

    transport: asyncio.Transport

    def __init__(self, near: "Near") -> None:
        self._near = near

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._near.is_cut:
            # The answer that the worker was not to hear.
            self.transport.abort()
        else:
            self._near.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._near.transport.abort()


class Near(asyncio.Protocol):
    """The connection to a worker."""

    transport: asyncio.Transport
    is_cut = False

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._far: Far | None = None
        self._waiting: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._proxy.pairs[self] = None
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, far = await loop.create_connection(lambda: Far(self), "127.0.0.1", self._proxy.port)
        except OSError:
            self.transport.abort()
            return
        self._far = far
        if self.transport.is_closing():
            far.transport.abort()
            return
        for data in self._waiting:
            far.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self._far is None:
            self._waiting.append(data)
        elif not self.is_cut and (due := self._proxy.cut_at(data)):
            self._cut_at(*due, self._far, data)
        elif not self.is_cut:
            self._far.transport.write(data)

    def _cut_at(self, kind: Kind, seconds: float, far: Far, data: bytes) -> None:
        self.is_cut = True
        later = asyncio.get_running_loop().call_later
        if kind is Kind.CUT_BEFORE_COMMIT:
            later(seconds, far.transport.abort)
        elif kind is Kind.LATE_COMMIT:
            later(seconds, far.transport.write, data)
        else:
            far.transport.write(data)
        self.transport.abort()

    def cut(self) -> None:
        """Cut the connection at both ends."""
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.pairs.pop(self, None)
        # A worker that was killed must be missed at once: its row locks hang on this connection.
        if self._far is not None and not self.is_cut:
            self._far.transport.abort()


async def serve(port: int) -> None:
    """Pass everything on until standard input ends."""
    loop = asyncio.get_running_loop()
    proxy = Proxy(port)
    server = await loop.create_server(lambda: Near(proxy), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        proxy.order(line.decode())


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
