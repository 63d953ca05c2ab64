"""One command to a Valkey server, over a connection of its own.

No client library: the starters also load where there is none, and nothing here retries on its own.
"""

import socket
from typing import IO, Any

from .errors import ServerError

# Seconds. A living server on this machine answers within milliseconds; a frozen one never does.
PATIENCE = 2.0


def ask(host: str, port: int, *words: str, patience: float = PATIENCE) -> Any:
    """What the server answers: a string, a number, None or a list of such.

    Raises ServerError for what the server itself refuses, and OSError when it does not answer.
    """
    with socket.create_connection((host, port), patience) as client:
        client.sendall(command(words))
        with client.makefile("rb") as reader:
            return reply(reader)


def command(words: tuple[str, ...]) -> bytes:
    """The words as an array of bulk strings, which is how a command is sent."""
    encoded = [word.encode() for word in words]
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def reply(reader: IO[bytes]) -> Any:
    """Read one reply of the protocol's second version."""
    line = reader.readline().decode()
    kind, rest = line[:1], line[1:].strip()
    match kind:
        case "+":
            return rest
        case ":":
            return int(rest)
        case "$":
            return bulk(reader, int(rest))
        case "*":
            return [reply(reader) for _ in range(int(rest))] if int(rest) >= 0 else None
        case _:
            raise ServerError(rest or "the server closed the connection")


def bulk(reader: IO[bytes], length: int) -> str | None:
    """Read a string of ``length`` bytes; a negative length stands for none."""
    return None if length < 0 else reader.read(length + 2)[:-2].decode()


def facts(text: str) -> dict[str, str]:
    """The ``name:value`` lines of INFO and CLUSTER INFO."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
