"""Effects outside the database: a line in a file for each run of a view, from any process."""

import os
from pathlib import Path


def log() -> Path:
    """The file that they are written to."""
    return Path(os.environ["EFFECTS_LOG"])


def happened(nonce: str) -> None:
    """Append one line in one write, which O_APPEND makes atomic between processes."""
    descriptor = os.open(log(), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{nonce}\n".encode())
    os.close(descriptor)


def count() -> int:
    """The number of times a view ran."""
    return len(log().read_text().splitlines()) if log().exists() else 0
