"""A TCP proxy that lets one request through and swallows the reply, and remembers its bytes.

The client sees what a person in a tunnel sees: the request went out, and nothing came back.
"""

import contextlib
import http.client
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from .waiting import NEVER_SECONDS


@dataclass(frozen=True)
class LostReply:
    """What the shop answered, and the client never saw."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def _read_reply(connection: socket.socket) -> LostReply:
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return LostReply(reply.status, reply.getheaders(), reply.read())


class Tunnel:
    """Stands in front of the shop for one request; use it as a context manager."""

    def __init__(self, port: int) -> None:
        self._shop = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(NEVER_SECONDS)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._reply: LostReply | None = None

    @property
    def address(self) -> str:
        """Where a client enters."""
        return "http://{}:{}".format(*self._listener.getsockname())

    def _carry(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(self._shop, NEVER_SECONDS) as shop:
            inward = threading.Thread(target=_pump, args=(client, shop), daemon=True)
            inward.start()
            self._reply = _read_reply(shop)
            # Closed without a byte; this also wakes the thread that waits for more to carry.
            client.shutdown(socket.SHUT_RDWR)
            inward.join(NEVER_SECONDS)

    def lost_reply(self) -> LostReply:
        """The reply that was swallowed, once it is complete; raises RuntimeError without one."""
        self._thread.join(NEVER_SECONDS)
        if self._reply is None:
            raise RuntimeError("no reply came back through the tunnel")
        return self._reply

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()
