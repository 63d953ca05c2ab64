"""The progress of a command: a bar on a terminal with tqdm (the extra ``progress``), or lines."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    from tqdm import tqdm
except ImportError:  # an extra
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True


def has_bar() -> bool:
    """Whether tqdm is installed and the output goes to a terminal."""
    return _IS_INSTALLED and sys.stderr.isatty()


@contextmanager
def bar(total: int) -> Iterator[Callable[[int], object]]:
    """A bar that disappears at the end; yields the function that advances it."""
    with tqdm(total=total, unit=" records", file=sys.stderr, leave=False) as shown:
        yield shown.update


def lines(write: Callable[[str], object]) -> Callable[[int], object]:
    """The function that counts the records of each batch and writes a line."""
    done = 0

    def advance(records: int) -> None:
        nonlocal done
        done += records
        write(f"{done} records")

    return advance
