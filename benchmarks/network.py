"""A network in front of a server on this machine: every round trip takes longer by so much.

``python -m benchmarks.network PORT SECONDS`` listens on a port of its own, its only line of output,
and passes everything on to PORT, what clients send later by so many seconds. It ends with its
standard input. :func:`network` is the same from within.
"""

import asyncio
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.servers import LOOPBACK
from tests.support.servers.server import pipe


async def _pass_on(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float
) -> None:
    loop = asyncio.get_running_loop()
    while data := await source.read(1 << 16):
        loop.call_later(seconds, target.write, data)
    loop.call_later(seconds, target.close)


async def _serve(port: int, seconds: float) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(LOOPBACK, port)
        # Cancelled at the end, which is no error.
        with suppress(asyncio.CancelledError):
            await asyncio.gather(
                _pass_on(reader, server[1], seconds), _pass_on(server[0], writer, 0.0)
            )

    listening = await asyncio.start_server(client, LOOPBACK, 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def network(port: int, seconds: float) -> Iterator[int]:
    """Its port, while it runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.network", str(port), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield int(pipe(process.stdout).readline())
    finally:
        process.communicate(timeout=10)


def main(port: str, seconds: str) -> None:
    """Pass on until the pipe ends."""
    # epoll counts in milliseconds.
    selector = selectors.SelectSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(_serve(int(port), float(seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
