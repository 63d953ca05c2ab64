"""One contestant in a process of its own, which answers when it is asked.

A line of JSON on standard input, such as ``["fresh", 10]``, is answered by one on standard output:
the seconds of each request, and what was wrong with the replies. Only the requests are timed, not
what comes before them and what is made of their replies.
"""

import json
import os
import sys
import threading
import uuid
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from benchmarks.sites.caller import Reply, Sent, Site

#: Seconds after which a duplicate counts as one that waits for the first to finish.
SOON = 1.0
#: What a duplicate gets while the first request runs.
REFUSED = {409, 423}


@dataclass(frozen=True, slots=True)
class Answer:
    """The seconds of a block's requests, wall and CPU; what was wrong, or only odd, or ""."""

    seconds: list[tuple[float, float]] = field(default_factory=list)
    wrong: str = ""
    remark: str = ""


def _answer(replies: "list[Reply]", wrong: str, remark: str = "") -> Answer:
    return Answer([(reply.wall, reply.cpu) for reply in replies], wrong, remark)


def _new_key() -> str:
    return str(uuid.uuid4())


class Worker:
    """The kinds of blocks."""

    def __init__(self, site: "Site") -> None:
        self._site = site

    def bare(self, count: int) -> Answer:
        """Requests to the view without protection."""
        return self._effective([None] * count)

    def fresh(self, count: int) -> Answer:
        """Requests with new keys."""
        return self._effective([_new_key() for _ in range(count)])

    def _effective(self, keys: list[str] | list[None]) -> Answer:
        before = self._site.effects()
        replies = [self._site.ask(key) for key in keys]
        made = tuple(now - then for now, then in zip(self._site.effects(), before, strict=True))
        wrong = {f"status {reply.status}" for reply in replies if reply.status != 201}
        wrong |= {f"runs and rows {made} of {len(keys)}"} if set(made) != {len(keys)} else set()
        return _answer(replies, ", ".join(sorted(wrong)))

    def replay(self, count: int) -> Answer:
        """Requests with one key, which has been answered."""
        key = _new_key()
        first = self._site.ask(key)
        before = self._site.effects()
        replies = [self._site.ask(key) for _ in range(count)]
        wrong = "runs again" if self._site.effects() != before else _difference(first, replies)
        same = {reply.body for reply in replies} == {first.body}
        return _answer(replies, wrong, "" if same or wrong else "other bytes")

    def conflict(self, count: int) -> Answer:
        """Requests with one key, whose first request still runs."""
        key, before = _new_key(), self._site.effects()[0]
        with self._site.held(key):
            # One that waits for the first request must not hold this thread.
            duplicate = threading.Thread(target=self._site.ask_beside, args=(key,))
            duplicate.start()
            duplicate.join(SOON)
            waits = duplicate.is_alive()
            replies = [self._site.ask(key) for _ in range(0 if waits else count)]
        duplicate.join()
        if self._site.effects()[0] > before + 1:
            return Answer(wrong="runs again")
        if waits:
            return Answer(wrong="waits")
        other = {reply.status for reply in replies} - REFUSED
        return _answer(replies, f"status {sorted(other)}" if other else "")

    def sent(self, kind: str) -> "Sent":
        """What one request of a kind sends, after one like it."""
        key = None if kind == "bare" else _new_key()
        with self._site.held(str(key)) if kind == "conflict" else nullcontext():
            self._site.sent(key)
            return self._site.sent(_new_key() if kind == "fresh" else key)


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


def main() -> None:
    """Answer until the pipe ends; what the contestant prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    django.setup()
    from benchmarks.sites.caller import Site

    worker = Worker(Site())
    for line in sys.stdin:
        name, argument = json.loads(line)
        answer: Any = getattr(worker, name)(argument)
        print(json.dumps(asdict(answer)), file=answers, flush=True)


if __name__ == "__main__":
    main()
