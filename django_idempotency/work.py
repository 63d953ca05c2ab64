"""A step as its view describes it: its names, what it runs, and what its errors mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from .models import StepKind

Function = Callable[..., Any]
Errors = tuple[type[BaseException], ...]

# What the column holds, with room for what an undo puts before it.
_LONGEST_NAME = 240
_UNDO = "undo:"


class RetryPolicy(Protocol):
    """How often a call is tried in one request: :class:`django_idempotency.retry.Retry`."""

    def run(self, function: Callable[[], Any], /, never: Errors) -> Any:
        """What ``function`` returns at last; raises RetriesExhaustedError.

        An exception of ``never`` is raised at once.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One step; ``names`` are its name of today and, after it, its former ones."""

    names: tuple[str, ...]
    kind: StepKind
    function: Function
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    fatal: Errors = ()
    undo: Function | None = None
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    at_most_once: bool = False
    reconcile: Function | None = None

    @property
    def name(self) -> str:
        """Its name today."""
        return self.names[0]

    @property
    def first_name(self) -> str:
        """What it was called when downstream keys were first made for it."""
        return self.names[-1]

    def run(self, **extra: Any) -> Any:
        """Call its function."""
        return self.function(*self.args, **self.kwargs, **extra)

    def taken_back(self, undo: Function, result: Any) -> "Work":
        """The step that takes this one back, which had that result."""
        return Work(
            names=tuple(_UNDO + name for name in self.names),
            kind=StepKind.UNDO,
            function=undo,
            args=(result,),
            retry=self.retry,
            timeout=self.timeout,
        )


def names_of(name: str, key: object = None, aliases: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of a step, each with the ``key`` of its loop; raises ValueError for a long one."""
    names = [name, *aliases]
    if key is not None:
        names = [f"{each}[{key}]" for each in names]
    for each in names:
        if not 0 < len(each) <= _LONGEST_NAME:
            raise ValueError(f"a step's name has 1 to {_LONGEST_NAME} characters: {each!r}")
        # What PostgreSQL cannot store, what MariaDB does not compare, and what is ours.
        if "\0" in each or each != each.rstrip() or each.startswith(_UNDO):
            raise ValueError(f"a step cannot be called {each!r}")
    return tuple(names)
