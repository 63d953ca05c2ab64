"""A worker's process as its parent sees it: it is asked, it answers, it ends with the block."""

import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.environments import ROOT, UnusableError, python_of, variables
from benchmarks.sites.contestants import Contestant
from tests.support.servers.server import pipe

#: Seconds. A block takes a few; a worker that needs longer hangs.
PATIENCE = 120.0


class Process:
    """A contestant's worker that runs; its methods raise UnusableError when it fails."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._asked, self._answers = pipe(process.stdin), pipe(process.stdout)

    def ask(self, name: str, argument: Any) -> Any:
        """What it answers to a command."""
        try:
            self._asked.write(json.dumps([name, argument]).encode() + b"\n")
            self._asked.flush()
        except BrokenPipeError:
            raise UnusableError("its worker has ended") from None
        return self._answer()

    def _answer(self) -> Any:
        ready, _, _ = select.select([self._answers], [], [], PATIENCE)
        line = self._answers.readline() if ready else b""
        if not line:
            raise UnusableError("its worker does not answer")
        return json.loads(line)


@contextmanager
def worker(contestant: Contestant, address: str) -> Iterator[Process]:
    """The worker of a contestant on the database at an address."""
    with subprocess.Popen(
        [python_of(contestant), "-m", "benchmarks.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | variables(contestant, address),
    ) as process:
        try:
            yield Process(process)
        finally:
            # It has no more to answer, and may hang.
            process.kill()
