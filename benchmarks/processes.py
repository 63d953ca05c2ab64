"""A worker's process as its parent sees it: it is asked, it answers, it ends with the block."""

import json
import os
import select
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from benchmarks.environments import ROOT, UnusableError, environment_of, variables
from benchmarks.sites.contestants import Contestant
from tests.support.servers.server import pipe

#: Seconds. A block takes a few; who needs longer hangs.
PATIENCE = 120.0


class Process:
    """A contestant's worker on the database at an address; raises UnusableError when it fails."""

    def __init__(self, contestant: Contestant, address: str) -> None:
        self._command = [str(environment_of(contestant).python), "-m", "benchmarks.worker"]
        self._variables = os.environ | variables(contestant, address)
        self._folder = tempfile.TemporaryDirectory()
        self.about: dict[str, str] = {}

    @property
    def _log(self) -> Path:
        return Path(self._folder.name, "log")

    def __enter__(self) -> Self:
        """Start it, and wait until its site is there."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=self._variables,
            )
        self._asked, self._answers = pipe(self._process.stdin), pipe(self._process.stdout)
        try:
            self.about = self._answer()
        except UnusableError:
            self.__exit__()
            raise
        return self

    def ask(self, name: str, argument: Any) -> Any:
        """What it answers to a command."""
        try:
            self._asked.write(json.dumps([name, argument]).encode() + b"\n")
            self._asked.flush()
        except BrokenPipeError:
            raise UnusableError(self._last_words()) from None
        return self._answer()

    def _answer(self) -> Any:
        if not select.select([self._answers], [], [], PATIENCE)[0]:
            self._process.kill()
            raise UnusableError("no answer")
        line = self._answers.readline()
        if not line:
            raise UnusableError(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        lines = self._log.read_text().strip().splitlines()
        return lines[-1] if lines else "ended without a word"

    def __exit__(self, *_: object) -> None:
        """End it: its standard input is over."""
        # What it was asked last may still be in the buffer.
        with suppress(BrokenPipeError):
            self._asked.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._folder.cleanup()
