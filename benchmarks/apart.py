"""Measures one database in a process of its own, because a process has one set of settings.

The process is that of the site ``ours``, unless it is told of other settings.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks.environments import variables
from benchmarks.sites.contestants import CONTESTANTS


def apart(measure: Callable[..., Any], address: str, *arguments: Any, **others: str) -> Any:
    """What ``measure`` returns there; ``others`` are more variables of its environment."""
    environment = variables(CONTESTANTS["ours"], address) | others
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_set_up, initargs=(environment,)) as pool:
        return pool.submit(measure, *arguments).result()


def _set_up(environment: dict[str, str]) -> None:
    import django

    os.environ.update(environment)
    django.setup()
