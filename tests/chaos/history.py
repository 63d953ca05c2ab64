"""What is written down: requests with their answers, runs of the view, and effects.

Times of requests are seconds of the machine's monotonic clock, which all processes share; those of
effects are seconds of the database's clock.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

RUNS, RECALLS = "runs.jsonl", "recalls.jsonl"
#: The requests that the replay cache answered, one a line.
HITS = "hits.txt"


class Operation(NamedTuple):
    """What has at most one effect: a key of a caller, on one path."""

    caller: str
    key: str
    path: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it."""

    request: str
    caller: str
    key: str
    path: str
    payload: str
    began: float
    ended: float
    #: None: no answer arrived, so that everything is possible.
    status: int | None = None
    #: Whether the client left without waiting for one.
    left: bool = False
    #: Whether the answer said that it is a replay.
    marked: bool = False
    #: Of status, Location and body.
    digest: str = ""
    #: The run that made the answer, if a view's run did.
    nonce: str = ""
    #: What an error says of itself: the layer's code, or the class of the view's exception.
    code: str = ""

    @property
    def operation(self) -> Operation:
        """What the request belongs to."""
        return Operation(self.caller, self.key, self.path)

    @property
    def succeeded(self) -> bool:
        """Whether its answer names an effect."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_half(self) -> bool:
        """Whether the connection broke in the middle of the body, which is JSON."""
        return self.payload.startswith("{") and not self.payload.endswith("}")

    def __str__(self) -> str:
        answer = "no answer" if self.status is None else str(self.status)
        details = " ".join(filter(None, ["replayed" * self.marked, self.code, self.nonce[:8]]))
        return (
            f"{self.began:.4f}-{self.ended:.4f} {self.request[:8]} {answer} {details}"
            f" {self.payload}"
        )


@dataclass(frozen=True, slots=True)
class Run:
    """The view began for this request; or, ``fenced``, its claim turned out to be lost."""

    request: str
    attempt: int
    fenced: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """What a committed run of the view left in the database."""

    request: str
    caller: str
    key: str
    path: str
    payload: str
    nonce: str
    #: The status the run was about to answer.
    outcome: int
    at: float

    @property
    def operation(self) -> Operation:
        """What it is an effect of."""
        return Operation(self.caller, self.key, self.path)


@dataclass(frozen=True, slots=True)
class Recall:
    """The clerk has expired a key; on the clock of requests."""

    caller: str
    key: str
    path: str
    began: float
    ended: float
    #: None: unknown.
    done: bool | None
    #: Whether the replay cache has confirmed that it forgot the key.
    forgotten: bool
    #: Whether an accomplice has put its entry back into the replay cache.
    restored: bool = False

    @property
    def operation(self) -> Operation:
        """What was expired."""
        return Operation(self.caller, self.key, self.path)

    def __str__(self) -> str:
        done = "expired" if self.done else "perhaps expired"
        details = ", the replay cache not told" * (not self.forgotten)
        details += ", its entry brought back" * self.restored
        return f"{self.began:.4f}-{self.ended:.4f} {done}{details}"


class Diary:
    """A file of exchanges that several threads add to."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._lock = threading.Lock()

    def add(self, exchange: Exchange) -> None:
        """Write it down."""
        line = json.dumps(asdict(exchange))
        with self._lock:
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        """Write out what is buffered."""
        self._file.flush()


def exchanges(folder: Path) -> Iterator[Exchange]:
    """All that was written down in ``folder``, in no order."""
    for path in folder.glob("exchanges-*.jsonl"):
        with path.open() as lines:
            yield from (Exchange(**json.loads(line)) for line in lines)


def runs(folder: Path) -> Iterator[Run]:
    """The runs of the view, which each worker noted in one write."""
    with (folder / RUNS).open() as lines:
        yield from (Run(**json.loads(line)) for line in lines)


def recalls(folder: Path) -> Iterator[Recall]:
    """What the clerk has expired, oldest first."""
    with (folder / RECALLS).open() as lines:
        yield from (Recall(**json.loads(line)) for line in lines)


def hits(folder: Path) -> int:
    """How many requests the replay cache has answered."""
    path = folder / HITS
    return len(path.read_text().splitlines()) if path.exists() else 0
