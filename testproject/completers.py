"""Starts a completer, which finishes deliveries whose clients do not come back, and ends it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from . import gunicorns

Completer = subprocess.Popen[bytes]

_COMMAND = ("-m", "testproject.manage", "complete_idempotent_operations", "--loop", "--interval")


def start(log_file: Path, variables: Mapping[str, str], interval: str) -> Completer:
    """A completer of the shop with these variables; with nothing due it pauses for ``interval``.

    It leads a process group, so that Ctrl-C reaches us only.
    """
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *_COMMAND, interval],
            cwd=gunicorns.ROOT,
            env=variables,
            stdout=log,
            stderr=log,
            process_group=0,
        )


@contextmanager
def completing(
    log_file: Path, variables: Mapping[str, str], interval: str = "1s"
) -> Iterator[Completer]:
    """A completer until the block ends; what it works at then is finished first."""
    completer = start(log_file, variables, interval)
    try:
        yield completer
    finally:
        gunicorns.stop(completer)
