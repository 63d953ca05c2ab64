"""A step as its view defines it: names, function, arguments, what its errors mean.

Also its two JSON forms: the digest of its arguments, by which a changed step is noticed, and its
result, which later attempts read instead of running it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from .. import conf
from ..codecs import decode
from ..models import StepKind

Function = Callable[..., Any]
Errors = tuple[type[BaseException], ...]

# The length of the column, less the prefix of an undo.
_LONGEST_NAME = 240
_UNDO = "undo:"


class RetryPolicy(Protocol):
    """How often a call is tried in one request: :class:`django_idempotency.retry.Retry`."""

    def run(self, function: Callable[[], Any], /, never: Errors) -> Any:
        """What ``function`` returns; raises RetriesExhaustedError, and any of ``never`` at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One step or call; ``names`` are the present name and, after it, the former ones."""

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
        """The present name."""
        return self.names[0]

    @property
    def oldest_name(self) -> str:
        """The oldest name: the downstream keys are made from it, so that a new name keeps them."""
        return self.names[-1]

    def run(self, **extra: Any) -> Any:
        """Call the function with its arguments."""
        return self.function(*self.args, **self.kwargs, **extra)

    def undone(self, undo: Function, result: Any) -> "Definition":
        """The step that undoes this one, which had that result."""
        return Definition(
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
        # PostgreSQL cannot store NUL, MariaDB ignores trailing spaces, and undos have the prefix.
        if "\0" in each or each != each.rstrip() or each.startswith(_UNDO):
            raise ValueError(f"a step cannot be called {each!r}")
    return tuple(names)


class _Arguments(DjangoJSONEncoder):
    """Writes a model's instance as its label and primary key."""

    def default(self, o: Any) -> Any:
        if isinstance(o, Model):
            return {"model": o._meta.label, "pk": o.pk}
        return super().default(o)


def digest_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """The SHA-256 of a step's arguments; raises TypeError for what JSON cannot hold."""
    try:
        text = json.dumps([args, kwargs], cls=_Arguments, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"step {name!r}: arguments must be JSON or instances of models ({error}); hand over"
            " what names them, and let the function look them up"
        ) from error
    return hashlib.sha256(text.encode()).digest()


def result_to_json(name: str, result: Any) -> bytes:
    """A step's result as JSON; raises TypeError, and ValueError where it is too long."""
    try:
        text = json.dumps(result, cls=DjangoJSONEncoder, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TypeError(f"step {name!r}: its result must be JSON ({error})") from error
    limit, size = conf.max_step_bytes(), len(text.encode())
    if size > limit:
        raise ValueError(
            f"step {name!r}: its result has {size} bytes, and IDEMPOTENCY_MAX_STEP_BYTES is"
            f" {limit}; return what names it"
        )
    return text.encode()


def result_of(output: bytes | None, codec: str) -> Any:
    """The result of a recorded step; raises UndecodableError."""
    return None if output is None else json.loads(decode(output, codec))
