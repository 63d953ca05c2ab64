"""One contestant in a process of his own, who answers when he is asked.

A line of JSON on standard input, such as ``["fresh", 10]``, is answered by one on standard output:
the seconds of each request, and what was wrong with the replies. Only the requests are timed; what
comes before them and what is made of their replies is not.
"""

import json
import os
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from benchmarks.sites.caller import Caller, Reply, Sent

#: Seconds after which a duplicate counts as one that waits for the first to finish.
SOON = 1.0
#: What a duplicate is told while the first request runs.
REFUSED = {409, 423}


@dataclass(frozen=True, slots=True)
class Answer:
    """The seconds of a block's requests, wall and CPU; what was wrong, or only odd, or ""."""

    seconds: list[tuple[float, float]] = field(default_factory=list)
    wrong: str = ""
    remark: str = ""


def _new_key() -> str:
    return str(uuid.uuid4())


class Worker:
    """The kinds of blocks."""

    def __init__(self, caller: "Caller") -> None:
        self._caller = caller

    def bare(self, count: int) -> Answer:
        """Requests to the view without protection."""
        return self._effective([None] * count)

    def fresh(self, count: int) -> Answer:
        """Requests with new keys."""
        return self._effective([_new_key() for _ in range(count)])

    def _effective(self, keys: list[str] | list[None]) -> Answer:
        before = self._caller.effects()
        replies = [self._caller.ask(key) for key in keys]
        made = tuple(now - then for now, then in zip(self._caller.effects(), before, strict=True))
        wrong = {f"status {reply.status}" for reply in replies if reply.status != 201}
        wrong |= {f"runs and rows {made} of {len(keys)}"} if set(made) != {len(keys)} else set()
        return _answer(replies, ", ".join(sorted(wrong)))

    def replay(self, count: int) -> Answer:
        """Requests with one key, which has been answered."""
        key = _new_key()
        first = self._caller.ask(key)
        before = self._caller.effects()
        replies = [self._caller.ask(key) for _ in range(count)]
        wrong = "runs again" if self._caller.effects() != before else _difference(first, replies)
        same = {reply.body for reply in replies} == {first.body}
        return _answer(replies, wrong, "" if same or wrong else "other bytes")

    def conflict(self, count: int) -> Answer:
        """Requests with one key, whose first request still runs."""
        key, before = _new_key(), self._caller.effects()[0]
        first = _Duplicate(lambda: self._caller.ask(key))
        with self._caller.held(key):
            first.send()
            replies = [self._caller.ask(key) for _ in range(count if first.told else 0)]
        first.thread.join()
        if self._caller.effects()[0] > before + 1:
            return Answer(wrong="runs again")
        if not replies:
            return Answer(wrong="waits")
        other = ({reply.status for reply in replies} | set(first.told)) - REFUSED
        return _answer(replies, f"status {sorted(other)}" if other else "")

    def sent(self, kind: str) -> "Sent":
        """What one request of a kind sends, after one like it."""
        key = None if kind == "bare" else _new_key()
        with self._caller.held(str(key)) if kind == "conflict" else nullcontext():
            self._caller.sent(key)
            return self._caller.sent(_new_key() if kind == "fresh" else key)


class _Duplicate:
    """One that may wait for the first to finish, which it does in a thread of its own."""

    def __init__(self, ask: "Callable[[], Reply]") -> None:
        self._ask = ask
        #: The status, once it is there.
        self.told: list[int] = []
        self.thread = threading.Thread(target=self._run)

    def send(self) -> None:
        """Return when it is answered, or does not look like it."""
        self.thread.start()
        self.thread.join(SOON)

    def _run(self) -> None:
        from django.db import connections

        self.told.append(self._ask().status)
        connections.close_all()


def _difference(first: "Reply", replies: "list[Reply]") -> str:
    other = {reply.status for reply in replies} - {first.status}
    if other:
        return f"no replay: {sorted(other)}"
    same = all(_same(first.body, body) for body in {reply.body for reply in replies})
    return "" if same else "another reply"


def _same(one: bytes, other: bytes) -> bool:
    """Whether they are the same bytes, or at least the same JSON."""
    try:
        return one == other or bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def _answer(replies: "list[Reply]", wrong: str, remark: str = "") -> Answer:
    return Answer([(reply.wall, reply.cpu) for reply in replies], wrong, remark)


def _caller() -> "Caller":
    name = os.environ["BENCHMARK_CONTESTANT"]
    if name.startswith("floor"):
        from benchmarks.sites.floor import FLOORS

        return FLOORS[name]()
    from benchmarks.sites.caller import Site

    return Site()


def _about() -> dict[str, str]:
    """What this environment has, and the database."""
    from importlib.metadata import version

    from django.db import connection

    packages = ("Django", "djangorestframework", "psycopg", "PyMySQL", "redis")
    told = {name: version(name) for name in packages}
    database = ".".join(map(str, connection.get_database_version()))
    return {"Python": sys.version.split()[0], **told, connection.display_name: database}


def main() -> None:
    """Obey until the pipe ends; what the contestant prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    django.setup()
    worker = Worker(_caller())
    print(json.dumps(_about()), file=answers, flush=True)
    for line in sys.stdin:
        name, argument = json.loads(line)
        answer: Any = getattr(worker, name)(argument)
        print(json.dumps(asdict(answer)), file=answers, flush=True)


if __name__ == "__main__":
    main()
