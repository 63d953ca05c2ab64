"""What an error means: every phase, by what became of the key, by the kind of error."""

from dataclasses import dataclass, field
from itertools import chain, product
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import DataError, InterfaceError, OperationalError, connections
from django.http import Http404, HttpRequest, HttpResponse

from django_idempotency.engine.recovery import (
    Answer,
    Fault,
    Freed,
    Phase,
    Recovery,
    answer_to,
)
from django_idempotency.exceptions import (
    InProgressError,
    KeyReusedError,
    TransitionError,
    UnavailableError,
)
from django_idempotency.models import Status
from django_idempotency.operation import Operation
from django_idempotency.policy import Policy
from django_idempotency.protocol.claims import Claim
from django_idempotency.storage.records import RowLockedError

#: An answer for each phase and kind of error, as the key was freed or not.
TABLE = """
phase        fault           freed: yes   no              unknown
before_view  lost_claim      in_progress  in_progress     in_progress
before_view  unreachable     unavailable  unavailable     unavailable
before_view  unserializable  unavailable  unavailable     unavailable
before_view  other           raise        raise           raise
view         lost_claim      in_progress  in_progress     in_progress
view         unreachable     raise        raise           raise
view         unserializable  raise        raise           raise
view         other           raise        raise           raise
save         lost_claim      in_progress  in_progress     in_progress
save         unreachable     raise        raise           raise
save         unserializable  unavailable  unavailable     unavailable
save         other           raise        raise           raise
commit       lost_claim      in_progress  in_progress     in_progress
commit       unreachable     raise        ask_the_record  unavailable
commit       unserializable  unavailable  ask_the_record  unavailable
commit       other           raise        raise           raise
done         lost_claim      in_progress  in_progress     in_progress
done         unreachable     raise        raise           raise
done         unserializable  raise        raise           raise
done         other           raise        raise           raise
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()[1:]]
EXPECTED = {
    (Phase[phase.upper()], Fault[fault.upper()], freed): Answer[answer.upper()]
    for phase, fault, *answers in ROWS
    for freed, answer in zip(Freed, answers, strict=True)
}
ERRORS: dict[Fault, list[Exception]] = {
    Fault.LOST_CLAIM: [TransitionError(), RowLockedError()],
    Fault.UNREACHABLE: [OperationalError("gone"), InterfaceError("closed")],
    Fault.UNSERIALIZABLE: [OperationalError("lost")],
    Fault.OTHER: [ValueError(), Http404(), DataError(), KeyReusedError()],
}
RAISED = [
    (phase, freed, error)
    for phase, freed in product(Phase, Freed)
    for error in chain(*ERRORS.values())
]


@dataclass
class FakeClaim:
    """A claim in a database that says what a test wants it to say."""

    freed: Freed = Freed.YES
    committed: bool | Exception = False
    asked: list[str] = field(default_factory=list)

    @property
    def store(self) -> Any:
        dialect = SimpleNamespace(is_lost=lambda error: str(error) == "lost")
        return SimpleNamespace(dialect=dialect)

    def release_late(self, reason: str) -> bool:
        self.asked.append(reason)
        if self.freed is Freed.UNKNOWN:
            raise OperationalError("the server is not there")
        return self.freed is Freed.YES

    def has_status(self, status: Status) -> bool:
        if isinstance(self.committed, Exception):
            raise self.committed
        return self.committed

    def delete_envelope(self) -> None:
        self.asked.append("wipe")


def recovery(claim: FakeClaim | None, **options: Any) -> Recovery:
    """That of an attempt; its operation has no intent, so no listener hears of it."""
    operation = Operation(HttpRequest(), "default")
    return Recovery("default", cast(Claim | None, claim), operation, Policy(**options))


def fault_of(error: Exception) -> Fault:
    """Under which kind the error stands above."""
    return next(fault for fault, errors in ERRORS.items() if error in errors)


def test_table_has_every_case() -> None:
    """Each of them once."""
    assert len(ROWS) * len(Freed) == len(EXPECTED) == len(list(product(Phase, Fault, Freed)))


@pytest.mark.parametrize(("phase", "fault", "freed"), EXPECTED)
def test_answer_is_that_of_the_table(phase: Phase, fault: Fault, freed: Freed) -> None:
    """One cell after the other."""
    assert answer_to(fault, phase, freed) is EXPECTED[phase, fault, freed]


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "plain"])
@pytest.mark.parametrize(("phase", "freed", "error"), RAISED)
def test_error_is_answered_by_its_kind(
    phase: Phase, freed: Freed, error: Exception, atomic: bool
) -> None:
    """The error shows its kind; trying to free the key shows whether it is free."""
    fault, claim = fault_of(error), FakeClaim(freed)
    is_tried = phase is not Phase.DONE and not (atomic and fault is Fault.LOST_CLAIM)
    raised = {
        Answer.RAISE: type(error),
        Answer.UNAVAILABLE: UnavailableError,
        Answer.ASK_THE_RECORD: UnavailableError,
        Answer.IN_PROGRESS: InProgressError,
    }[EXPECTED[phase, fault, freed if is_tried else Freed.NO]]
    with pytest.raises(raised) as caught:
        recovery(claim, atomic=atomic).after(error, phase, HttpResponse())
    assert error in (caught.value, caught.value.__cause__)
    assert claim.asked == ([type(error).__name__] if is_tried else [])


def test_response_that_is_saved_is_the_reply() -> None:
    """COMMIT raised, the key cannot be freed, and the record is completed."""
    response = HttpResponse("cake")
    claim = FakeClaim(Freed.NO, committed=True)
    error = OperationalError("the reply to COMMIT was lost")
    assert recovery(claim).after(error, Phase.COMMIT, response) is response


def test_record_that_cannot_be_asked_says_nothing() -> None:
    """503: a retry learns what became of it."""
    gone = OperationalError("gone")
    claim = FakeClaim(Freed.NO, committed=gone)
    with pytest.raises(UnavailableError) as caught:
        recovery(claim).after(OperationalError("COMMIT"), Phase.COMMIT, HttpResponse())
    assert caught.value.__cause__ is gone


@pytest.mark.parametrize("error", [OperationalError("gone"), ValueError(), Http404()])
@pytest.mark.parametrize("phase", Phase)
def test_request_without_a_key_gets_the_error(phase: Phase, error: Exception) -> None:
    """There is no record to ask."""
    with pytest.raises(type(error)):
        recovery(None).after(error, phase, HttpResponse())


@pytest.mark.parametrize(
    ("error", "wiped"), [(Http404(), True), (ValueError(), False), (KeyReusedError(), False)]
)
def test_stored_request_that_its_client_must_mend_is_deleted(error: Exception, wiped: bool) -> None:
    """A completer cannot help there; after any other error it tries again."""
    claim = FakeClaim()
    with pytest.raises(type(error)):
        recovery(claim, keep_request=True).after(error, Phase.VIEW, None)
    assert ("wipe" in claim.asked) is wiped


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("error", [OperationalError("gone"), ValueError()])
def test_connection_that_failed_at_an_edge_is_dropped(
    error: Exception, phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still be in a transaction, and read what was never committed."""
    closed: list[Phase] = []
    monkeypatch.setattr(connections["default"], "in_atomic_block", False)
    monkeypatch.setattr(connections["default"], "close", lambda: closed.append(phase))
    with pytest.raises(Exception):  # noqa: B017, PT011 - which of them, the table says
        recovery(FakeClaim()).after(error, phase, HttpResponse())
    is_edge = phase in (Phase.BEFORE_VIEW, Phase.COMMIT)
    assert closed == [phase] * (is_edge and isinstance(error, OperationalError))
