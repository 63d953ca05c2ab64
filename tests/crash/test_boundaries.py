"""Every SQL boundary of a covered request, and at each one an error, a dropped connection, a kill.

Each story is told once without a fault, and every boundary on its way is recorded; then it is told
again for each fault at each boundary, in a process of its own. After each case a retry, which knows
no more than the reply, must reach the one right end.
"""

import functools
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.db import connection
from django.db.models.functions import Now

from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.storage.dialects import dialect_of
from tests.conftest import atomic_requests_on
from tests.support.patience import HANG_SECONDS

from .boundaries import FAULTS, Boundary, Strike, strikes_at
from .stories import STORIES, State, Story, clean, look, nonce_of
from .victim import Errand, Reply, Report, Request, Victim, overheard, send, victim

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls(f"{__package__}.urls"),
]

_PAUSE_SECONDS = 0.005
# A test with this many failures goes no further.
_ENOUGH = 5


@pytest.fixture(autouse=True)
def young_and_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry need not wait long before it looks whether a young claim's owner lives."""
    monkeypatch.setattr(type(dialect_of(connection)), "grace", 0.005)


def errand_of(story: Story, *strikes: Strike) -> Errand:
    """The story's request, with a new key, on its way to its faults."""
    request = Request(story.path, uuid.uuid4().hex, {"cake": "lemon"})
    given = (story.given,) if story.given else ()
    return Errand(request, story.act, story.atomic_requests, (*given, *strikes))


@functools.cache
def recorded(story: Story) -> list[Boundary]:
    """Every boundary the story crosses when nothing happens to it but what is given."""
    clean()
    errand = errand_of(story)
    with story.scene(errand.request) as ending, victim(errand) as told:
        ending()
        assert told.report
        assert told.report.missed == []
        assert told.report.reply.status == story.status
        return told.report.crossed


def cases(story: Story, fault: str) -> Iterator[tuple[str, Strike]]:
    """Every case of one fault, by name."""
    boundaries = recorded(story)
    words = [boundary.word for boundary in boundaries]
    first = words.index(str(story.given.at)) + 1 if story.given else 0
    for number, boundary in enumerate(boundaries[first:], first + 1):
        following = next(iter(boundaries[number:]), None)
        for strike in strikes_at(number, boundary, fault, following):
            yield f"{story.name}-{number}-{strike.when}-{boundary.word}-{fault}", strike


def check_reply(story: Story, strike: Strike, report: Report) -> None:
    """The faulted request came to its fault, and its sender can make sense of the answer."""
    status = report.reply.status
    assert report.missed == []
    # Only these tests close SQLite's handle under Django, which calls that a programming error.
    closed = {500} if connection.vendor == "sqlite" and strike.fault in ("drop", "lose") else set()
    if report.began:
        assert status in {story.status, 500, 503}
    elif story.runs:
        assert status in story.refusals | closed
    else:
        assert status in {story.status, 503} | closed


def check_commit(story: Story, before: State, after: State) -> None:
    """The writes and the record are committed together, or neither."""
    new = after.orders - before.orders
    if not story.is_atomic:
        assert len(new) <= 1
    elif story.frees:
        # error is empty: released with the writes, not after a rollback.
        assert len(new) == (after.status == Status.RELEASED and after.error == "")
    else:
        saved = {after.saved} if story.is_saved(before, after) else set()
        assert new == saved - before.orders
        assert story.saves or not new
    if story.in_two_databases:
        assert after.orders <= after.elsewhere


def check_promise(story: Story, reply: Reply, state: State) -> None:
    """What the faulted request said is what is committed."""
    if reply.status in (201, 401):
        assert nonce_of(reply.body) in state.orders
    if reply.status == 201:
        assert state.status == Status.COMPLETED
        assert nonce_of(reply.body) == state.saved


def let_the_lease_run_out(state: State) -> None:
    """Where no lock vouches the lease does: the view did not run again before it was over."""
    assert look().runs == state.runs
    IdempotencyRecord.objects.filter(status=Status.IN_PROGRESS).update(lease_expires_at=Now())


def retried(story: Story, request: Request, state: State) -> Reply:
    """The final reply, asked for by a client that retries as the refusals say."""
    deadline = time.monotonic() + HANG_SECONDS
    while (reply := send(request)).status in (409, 503):
        assert time.monotonic() < deadline, "the key is stuck"
        if not story.is_atomic:
            let_the_lease_run_out(state)
        time.sleep(_PAUSE_SECONDS)
    return reply


def check_end(story: Story, before: State, faulted: State, final: Reply) -> State:
    """One effect, and the response that belongs to it is saved."""
    end = look()
    assert end.status == Status.COMPLETED
    assert final.status == story.final
    if story.final == 422:
        assert end == before
        return end
    assert end.saved == nonce_of(final.body)
    assert final.replayed or not story.is_saved(before, faulted)
    assert end.runs == faulted.runs + (not final.replayed)
    check_orders(story, before, faulted, end)
    return end


def check_orders(story: Story, before: State, faulted: State, end: State) -> None:
    """One order; where the promise is weaker, at most another one of the faulted attempt's."""
    spare = end.orders - before.orders - {end.saved}
    assert end.saved in end.orders
    assert faulted.orders <= end.orders
    assert len(spare) <= (story.frees or not story.is_atomic)
    if story.in_two_databases:
        assert end.orders <= end.elsewhere


def tell(story: Story, strike: Strike) -> None:
    """One case, from a clean slate to the one right end."""
    clean()
    errand = errand_of(story, strike)
    with story.scene(errand.request) as ending, atomic_requests_on(*story.atomic_requests):
        before = look()
        with victim(errand) as told:
            ending()
            check_case(story, strike, errand.request, before, told)


def check_case(story: Story, strike: Strike, request: Request, before: State, told: Victim) -> None:
    """After the fault, after a retry, and after another duplicate."""
    faulted = look()
    assert (told.report is None) == (strike.fault == "kill")
    check_commit(story, before, faulted)
    if told.report:
        check_reply(story, strike, told.report)
        check_promise(story, told.report.reply, faulted)
    final = retried(story, request, faulted)
    end = check_end(story, before, faulted, final)
    if told.report and told.report.reply.status == 201:
        assert final.body == told.report.reply.body
    # The process that met the fault serves on, with the connections it has.
    duplicate = told.again() if told.report else send(request)
    assert duplicate == replace(final, replayed=story.final == 201)
    assert look() == end


def failure_of(story: Story, strike: Strike) -> str:
    """What went wrong in a case; empty if nothing did."""
    try:
        tell(story, strike)
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].line
        return f"{line}: {type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", STORIES)
def test_fault_at_any_boundary_leads_to_the_one_right_end(name: str, fault: str) -> None:
    """Every boundary the story crosses, before and after it; nothing lost, nothing twice."""
    story = STORIES[name]
    failures = []
    for case, strike in cases(story, fault):
        if failure := failure_of(story, strike):
            failures.append(f"{case}: {failure}")
        if len(failures) == _ENOUGH:
            break
    assert not failures, "\n".join(failures)


def test_boundaries_are_many() -> None:
    """At least 120 cases for each database; every kind of boundary is among them."""
    names = [
        name for story in STORIES.values() for fault in FAULTS for name, _ in cases(story, fault)
    ]
    words = {boundary.word for story in STORIES.values() for boundary in recorded(story)}
    print(f"\n{connection.display_name}: {len(names)} cases")
    assert len(set(names)) == len(names) >= 120
    assert words >= {"CONNECT", "BEGIN", "SAVEPOINT", "RELEASE", "COMMIT", "ROLLBACK", "AUTOCOMMIT"}


@pytest.mark.parametrize(
    "name",
    [name for name, story in STORIES.items() if not story.given and not story.in_two_databases],
)
def test_boundaries_are_all_there_are(name: str) -> None:
    """The driver sends nothing that is not recorded, COMMIT and ROLLBACK included."""
    clean()
    story = STORIES[name]
    errand = errand_of(story)
    with story.scene(errand.request) as ending:
        crossed, sent = overheard(errand)
        ending()
    # After a rollback psycopg forgets its plans, between two statements that are recorded.
    assert crossed == [word for word in sent if word != "DEALLOCATE"]
