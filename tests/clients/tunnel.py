"""A way to the server on which replies get lost after the request has been processed."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Tunnel:
    """Passes everything on, but closes the connection instead of every ``nth`` answer."""

    def __init__(self, port: int, nth: int) -> None:
        self._port = port
        self._nth = nth
        self.answers = 0
        self.lost = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one client's connection, until either side closes it."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        asked = asyncio.Event()
        asking = asyncio.create_task(self._ask(reader, far_writer, asked))
        with contextlib.suppress(ConnectionError):
            while data := await far_reader.read(65536):
                if asked.is_set() and self._is_lost():
                    break
                asked.clear()
                writer.write(data)
                await writer.drain()
        asking.cancel()
        writer.close()
        far_writer.close()

    def _is_lost(self) -> bool:
        """Whether the answer that begins now is to be lost."""
        self.answers += 1
        lost = self.answers % self._nth == 0
        self.lost += lost
        return lost

    async def _ask(
        self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                asked.set()
                far.write(data)
                await far.drain()
        far.close()


@contextmanager
def tunnel(address: str, *, nth: int) -> Iterator[tuple[str, Tunnel]]:
    """The address of a tunnel to ``address``, and the answers it has lost so far."""
    carrier = Tunnel(urlsplit(address).port or 80, nth)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    starting = asyncio.start_server(carrier.carry, "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", carrier
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
