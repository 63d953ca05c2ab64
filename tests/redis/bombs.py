"""Pickles that do harm when they are loaded: they make a file."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any


class _Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self._path,)


def bomb(path: Path) -> bytes:
    """A pickle that makes the file at ``path`` when it is loaded."""
    return pickle.dumps(_Bomb(path))
