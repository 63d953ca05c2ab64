"""A relay between a client and its server, which counts how often the server was asked."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers import LOOPBACK


class Relay:
    """Passes everything on in both directions; ``trips`` counts the round trips.

    What a client sends before the server has answered belongs to the same round trip.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = [self._listener]
        self.trips = 0

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((LOOPBACK, self._server_port))
                self._sockets += [near, far]
                asked = threading.Event()
                for source, sink, is_question in ((near, far, True), (far, near, False)):
                    pump = (source, sink, asked, is_question)
                    threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        asked: threading.Event,
        is_question: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_question and not asked.is_set():
                    with self._lock:
                        self.trips += 1
                    asked.set()
                elif not is_question:
                    asked.clear()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Every connection is cut, and no other is accepted."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A relay in front of a server on this machine."""
    between = Relay(port)
    thread = threading.Thread(target=between._serve, daemon=True)
    thread.start()
    try:
        yield between
    finally:
        between.close()
        thread.join()
