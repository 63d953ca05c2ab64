"""Processes for one errand each, forked from a process that has Django ready.

A fork costs some milliseconds, because the module that is preloaded has done all the work before:
Django is set up and no connection is open.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

Pipe: TypeAlias = "Connection[Any, Any]"
#: What a process does with its errand, and with the pipe to the process that sent it.
Life: TypeAlias = Callable[[Any, Pipe], None]

# Only a process that hangs takes so long.
_HUNG_SECONDS = 30.0

_context = multiprocessing.get_context("forkserver")
# The next process is made while this one works.
_spare: list["Fork"] = []


def preload(module: str) -> None:
    """Fork all later processes from one that has imported this module."""
    _context.set_forkserver_preload([module])


class Fork:
    """A process that waits for its errand, seen from the process that started it."""

    def __init__(self) -> None:
        self.pipe, theirs = _context.Pipe()
        self._process = _context.Process(target=_await_errand, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def hear(self) -> Any:
        """The next report; None if the process was killed instead."""
        assert self.pipe.poll(_HUNG_SECONDS), "hung"
        try:
            return self.pipe.recv()
        except EOFError:
            self._process.join()
            assert self._process.exitcode == -signal.SIGKILL
            return None

    def end(self) -> None:
        """Kill the process if it still lives, and free what belongs to it."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.pipe.close()


def _await_errand(pipe: Pipe) -> None:
    live, errand = pipe.recv()
    live(errand, pipe)


@contextmanager
def forked(live: Life, errand: Any) -> Iterator[Fork]:
    """A process on its errand; it is dead at the end of the block."""
    fork = _spare.pop() if _spare else Fork()
    try:
        fork.pipe.send((live, errand))
        _spare.append(Fork())
        yield fork
    finally:
        fork.end()
