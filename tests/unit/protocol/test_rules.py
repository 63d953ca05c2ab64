"""The state table: every combination of what can be true of a record and of a request."""

import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from django_idempotency.exceptions import (
    AttemptsExhaustedError,
    IdempotencyError,
    KeyErasedError,
    KeyReusedError,
)
from django_idempotency.models import Status
from django_idempotency.protocol.rules import (
    Origin,
    Running,
    TakeOver,
    begin,
    decide,
    seems_dead,
)
from django_idempotency.storage.values import Found, Intent, StoredResponse

DOCS = Path(__file__).parents[3] / "docs"

#: As docs/guarantees.rst shows it. The first line that fits holds.
TABLE = """\
==================================================  =============  =============================
the record                                          the request    what happens
==================================================  =============  =============================
none                                                a client's     runs: a new key
none                                                a completer's  410
completed, expired                                  a client's     runs: a new life of the key
released, expired, no request stored                a client's     runs: a new life of the key
erased                                              any            410
completed                                           the same       gets the saved response
in progress, owner trusted                          the same       409, or waits
in progress, owner seems dead, attempts left        the same       takes over: the next attempt
in progress, owner seems dead, no attempts left     the same       409, and the key is released
released, attempts left                             the same       runs: the next attempt
released, no attempts left                          the same       409
released, atomic, no steps and no request stored    another        runs: the first attempt
any                                                 another        422
==================================================  =============  =============================
"""

GRACE = 0.25
ATTEMPTS = 3
ASKED, OTHER = b"f" * 32, b"o" * 32
RESPONSE = StoredResponse(201, [], b"cake")
#: An owner, as its record shows it, and whether it seems dead.
OWNERS: dict[tuple[bool, float, bool, bool], bool] = {
    # atomic, age, touched, lease over
    (True, 0.0, False, False): False,
    (True, 0.0, False, True): False,
    (True, 60.0, False, False): True,
    (True, 0.0, True, False): True,
    (False, 0.0, False, False): False,
    (False, 60.0, True, False): False,
    (False, 0.0, False, True): True,
}


@dataclass(frozen=True)
class Case:
    """What is true of a record (without a status there is none), and of a request."""

    status: Status | None
    fingerprint: bytes
    expired: bool
    owner: tuple[bool, float, bool, bool]
    has_steps: bool
    has_request: bool
    attempts_left: bool
    is_resumed: bool

    @property
    def atomic(self) -> bool:
        return self.owner[0]

    def found(self) -> Found:
        """The record."""
        assert self.status is not None
        atomic, age, touched, lease_over = self.owner
        return Found(
            fingerprint=self.fingerprint,
            status=self.status,
            token=uuid.uuid4(),
            attempts=ATTEMPTS,
            atomic=atomic,
            age=age,
            lease_over=lease_over,
            overdue=1.0 if self.expired else -1.0,
            touched=touched,
            alive=None,
            response=RESPONSE if self.status is Status.COMPLETED else None,
        )


@dataclass
class Parts:
    """What belongs to the record; remembers the questions, each of which is a statement."""

    case: Case
    questions: list[str] = field(default_factory=list)

    def has_envelope(self, record: uuid.UUID) -> bool:
        self.questions.append("envelope")
        return self.case.has_request

    def is_unfinished(self, record: uuid.UUID) -> bool:
        self.questions.append("steps or envelope")
        return self.case.has_request or self.case.has_steps


CASES = [
    Case(*facts)
    for facts in product(
        (None, *Status),
        (ASKED, OTHER, b""),
        (False, True),
        OWNERS,
        *[(False, True)] * 4,
    )
]

#: What the words of the table mean.
WORDS: dict[str, Any] = {
    "none": lambda case: case.status is None,
    "in progress": lambda case: case.status is Status.IN_PROGRESS,
    "completed": lambda case: case.status is Status.COMPLETED,
    "released": lambda case: case.status is Status.RELEASED,
    "expired": lambda case: case.expired,
    "erased": lambda case: case.fingerprint == b"",
    "atomic": lambda case: case.atomic,
    "owner trusted": lambda case: not OWNERS[case.owner],
    "owner seems dead": lambda case: OWNERS[case.owner],
    "no request stored": lambda case: not case.has_request,
    "no steps and no request stored": lambda case: not case.has_steps and not case.has_request,
    "attempts left": lambda case: case.attempts_left,
    "no attempts left": lambda case: not case.attempts_left,
    "a client's": lambda case: not case.is_resumed,
    "a completer's": lambda case: case.is_resumed,
    "the same": lambda case: case.fingerprint == ASKED,
    "another": lambda case: case.fingerprint not in (ASKED, b""),
    "any": lambda case: True,
}
OUTCOMES: dict[str, Any] = {
    "runs: a new key": TakeOver(1, Origin.NOTHING),
    "runs: a new life of the key": TakeOver(1, Origin.EXPIRED),
    "runs: the first attempt": TakeOver(1, Origin.FREE),
    "runs: the next attempt": TakeOver(ATTEMPTS + 1, Origin.FREE),
    "takes over: the next attempt": TakeOver(ATTEMPTS + 1, Origin.DEAD),
    "gets the saved response": RESPONSE,
    "409, or waits": Running,
    "409, and the key is released": TakeOver(ATTEMPTS, Origin.DEAD, is_exhausted=True),
    "409": AttemptsExhaustedError,
    "410": KeyErasedError,
    "422": KeyReusedError,
}
LINES = [tuple(re.split(r" {2,}", line)) for line in TABLE.splitlines()[3:-1]]


def fits(line: tuple[str, ...], case: Case) -> bool:
    """Whether all that a line says is true."""
    record, request, _ = line
    return all(WORDS[word](case) for word in (*record.split(", "), request))


def cases_of(line: tuple[str, ...]) -> Iterator[Case]:
    """Those that no earlier line fits."""
    earlier = LINES[: LINES.index(line)]
    for case in CASES:
        if fits(line, case) and not any(fits(other, case) for other in earlier):
            yield case


def outcome_of(case: Case) -> Any:
    """What the code does: a plan, the response, or the class of what it raises or finds running."""
    intent = Intent(uuid.uuid4(), "user:1", "k", ASKED, "POST", "/", is_resumed=case.is_resumed)
    most = ATTEMPTS + 1 if case.attempts_left else ATTEMPTS
    try:
        if case.status is None:
            return begin(intent)
        found = case.found()
        outcome = decide(found, intent, Parts(case), grace=GRACE, max_attempts=most)
    except IdempotencyError as error:
        return type(error)
    return Running if outcome == Running(found) else outcome


@pytest.mark.parametrize("line", LINES, ids=", ".join)
def test_every_case_of_a_line_ends_as_it_says(line: tuple[str, ...]) -> None:
    """And there are such cases."""
    cases = list(cases_of(line))
    assert cases
    for case in cases:
        assert outcome_of(case) == OUTCOMES[line[-1]], case


def test_every_case_has_a_line() -> None:
    """The table has no gaps."""
    assert [case for case in CASES if not any(fits(line, case) for line in LINES)] == []


def test_table_of_the_documentation_is_this_one() -> None:
    """Word for word."""
    assert TABLE in (DOCS / "guarantees.rst").read_text()


def test_table_uses_every_word_and_outcome() -> None:
    """None of those above is left over."""
    words = {word for record, request, _ in LINES for word in (*record.split(", "), request)}
    assert words == set(WORDS)
    assert {then for _, _, then in LINES} == set(OUTCOMES)


def test_nothing_is_asked_that_does_not_matter() -> None:
    """Each question is a statement: only of a released record, and only one of each kind."""
    for case in CASES:
        if case.status is None:
            continue
        intent = Intent(uuid.uuid4(), "user:1", "k", ASKED, "POST", "/", is_resumed=case.is_resumed)
        parts = Parts(case)
        with suppress(IdempotencyError):
            decide(case.found(), intent, parts, grace=GRACE)
        may_be_over = case.status is Status.RELEASED and case.expired and not case.is_resumed
        is_over = may_be_over and not case.has_request
        is_another = case.status is Status.RELEASED and case.fingerprint == OTHER and case.atomic
        expected = ["envelope"] * may_be_over + ["steps or envelope"] * (is_another and not is_over)
        assert parts.questions == expected, case


def test_attempts_are_unlimited_without_a_limit() -> None:
    """``max_attempts`` is None by default."""
    owner = (True, 60.0, False, False)
    case = Case(Status.IN_PROGRESS, ASKED, False, owner, False, False, True, False)
    intent = Intent(uuid.uuid4(), "user:1", "k", ASKED, "POST", "/")
    plan = decide(case.found(), intent, Parts(case), grace=GRACE)
    assert plan == TakeOver(ATTEMPTS + 1, Origin.DEAD)


@pytest.mark.parametrize(
    ("attempts", "age", "dead"),
    [
        (1, 0.24, False),
        (1, 0.25, True),
        (2, 0.49, False),
        (2, 0.50, True),
        (5, 3.99, False),
        (5, 4.00, True),
        (6, 7.99, False),
        (6, 8.00, True),
        (60, 7.99, False),
        (60, 8.00, True),
    ],
)
def test_grace_doubles_up_to_eight_seconds(attempts: int, age: float, dead: bool) -> None:
    """A failing key's grace stays short enough for a client that retries."""
    owner = (True, age, False, False)
    found = Case(Status.IN_PROGRESS, ASKED, False, owner, False, False, True, False).found()
    assert seems_dead(replace(found, attempts=attempts), GRACE) is dead
