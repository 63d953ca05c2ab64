"""How far a command is: a bar on a terminal, where tqdm is installed (the extra ``progress``)."""

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
    """Whether somebody would see one."""
    return _IS_INSTALLED and sys.stderr.isatty()


@contextmanager
def bar(total: int) -> Iterator[Callable[[int], object]]:
    """A bar that advances by so many records, and is gone at the end."""
    with tqdm(total=total, unit=" records", file=sys.stderr, leave=False) as shown:
        yield shown.update


@contextmanager
def lines(write: Callable[[str], object]) -> Iterator[Callable[[int], object]]:
    """A line for each batch."""
    done = 0

    def advance(records: int) -> None:
        nonlocal done
        done += records
        write(f"{done} records")

    yield advance
