"""The hammer's checker finds every violation in a doctored history, and only those; its schedule
follows from the seed.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker import cases, check
from tests.chaos.faults import Freeze
from tests.chaos.history import (
    RECALLS,
    Diary,
    Effect,
    Exchange,
    Operation,
    Recall,
    Run,
    exchanges,
    recalls,
)
from tests.chaos.patience import impatient
from tests.chaos.plan import Fault, Kind, plan
from tests.chaos.promises import FENCED, LEASE, MAX_AGE, PROMISES
from tests.chaos.rules import RULES
from tests.redis.waits import Wait

ONCE, BRIEF, PLAIN, RECALLED = "/once/", "/brief/", "/plain/", "/recalled/"
CALM_SINCE = 100.0
RETENTION = PROMISES[BRIEF].retention or 0.0


@dataclass
class History:
    """A history that grows by one request at a time."""

    path: str = ONCE
    exchanges: list[Exchange] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    unfinished: set[Operation] = field(default_factory=set)
    recalls: list[Recall] = field(default_factory=list)
    #: What is known of the replay cache.
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def operation(self) -> Operation:
        """The one operation it is about."""
        return Operation("", "a-key-of-nobody", self.path)

    def asked(self, at: float, status: int | None, nonce: str = "", **parts: Any) -> None:
        """A request that took a tenth of a second."""
        exchange = Exchange(
            request=f"request-{len(self.exchanges)}",
            **self.operation._asdict(),
            payload="cake",
            began=at,
            ended=at + 0.1,
            status=status,
            digest=nonce,
            nonce=nonce,
        )
        self.exchanges.append(replace(exchange, **parts))

    def ran(self, at: float, outcome: int = 201, **parts: Any) -> None:
        """The last request ran the view and its writes were committed."""
        last = self.exchanges[-1]
        effect = Effect(
            request=last.request,
            **self.operation._asdict(),
            payload=last.payload,
            nonce=last.nonce,
            outcome=outcome,
            at=at,
        )
        self.effects.append(replace(effect, **parts))
        self.runs.append(Run(last.request, 1))

    def succeeded(self, at: float, nonce: str = "n1", **parts: Any) -> None:
        """A request that ran the view and got its reply."""
        self.asked(at, 201, nonce, **parts)
        self.ran(at)

    def refused(self, at: float, status: int, code: str, **parts: Any) -> None:
        """A request that the layer answered with an error."""
        self.asked(at, status, code=f"idempotency_{code}", **parts)

    def replayed(self, at: float, nonce: str = "n1", **parts: Any) -> None:
        """A request that got the saved reply."""
        self.asked(at, 201, nonce, **{"marked": True, **parts})

    def recalled(self, at: float, *, done: bool | None = True, **parts: Any) -> None:
        """The clerk has expired the key, which took a tenth of a second."""
        recall = Recall(*self.operation, began=at, ended=at + 0.1, done=done, forgotten=True)
        self.recalls.append(replace(recall, **parts))

    def violations(self) -> Counter[str]:
        """How often each rule was broken."""
        everything = cases(
            self.exchanges, self.effects, self.runs, CALM_SINCE, self.recalls, **self.cache
        )
        return Counter(violation.rule for violation in check(everything, self.unfinished))


def ordinary(path: str = ONCE) -> History:
    """Failures and conflicts, an effect, its replays, and another caller's request."""
    history = History(path)
    history.asked(1.0, None)
    history.refused(1.2, 503, "unavailable")
    history.asked(1.4, 500, code="Crash")
    history.runs.append(Run(history.exchanges[-1].request, 1))
    history.asked(1.5, 400, "n0")
    history.ran(1.5, outcome=400)
    history.refused(1.61, 409, "in_progress")
    history.succeeded(1.6)
    history.replayed(1.65)
    history.replayed(2.0)
    history.refused(2.2, 422, "key_reused", payload="pie")
    return history


def story(path: str = ONCE) -> Callable[[Callable[[History], None]], History]:
    """Decorates what is done to an ordinary history."""

    def told(doctor: Callable[[History], None]) -> History:
        history = ordinary(path)
        doctor(history)
        return history

    return told


@story()
def effect_twice(history: History) -> None:
    """The first attempt, whose reply was lost, had been committed."""
    history.effects.append(replace(history.effects[-1], nonce="n9", request="request-0"))


@story(BRIEF)
def effect_before_expiry(history: History) -> None:
    """The same, on a key that may run again, but not yet."""
    history.asked(1.6 + RETENTION - 0.2, None, nonce="n2")
    history.ran(1.6 + RETENTION - 0.1)


@story()
def success_without_effect(history: History) -> None:
    """The reply was saved, the effect was not."""
    history.effects.pop()


@story()
def strangers_reply(history: History) -> None:
    """The reply belongs to another key."""
    history.effects[-1] = replace(history.effects[-1], key="another-key")


@story()
def wrong_reply(history: History) -> None:
    """The reply belongs to another request with the same key."""
    history.replayed(3.0, payload="pie")


@story()
def replies_differ(history: History) -> None:
    """One byte is different."""
    history.replayed(3.0, digest="n1 ")


@story()
def two_first_replies(history: History) -> None:
    """A replay that does not say so."""
    history.replayed(1.62, marked=False)


@story()
def unmarked_replay(history: History) -> None:
    """The first caller to get the reply did not make it, and it is not marked as a replay."""
    history.exchanges[5] = replace(history.exchanges[5], status=None)
    history.replayed(1.62, marked=False)


@story()
def forgotten_reply(history: History) -> None:
    """A conflict after the success."""
    history.refused(3.0, 409, "in_progress")


@story()
def forgotten_request(history: History) -> None:
    """Another request gets a conflict after the success, instead of its refusal."""
    history.refused(3.0, 409, "in_progress", payload="pie")


@story()
def forgotten_while_faults_are_on(history: History) -> None:
    """The view fails by itself after it has succeeded: it has run again."""
    history.asked(3.0, 500, code="Crash")


@story(BRIEF)
def forgotten_before_expiry(history: History) -> None:
    """A second effect within the retention of the first."""
    history.asked(2.5, 201, nonce="n2")
    history.ran(1.6 + RETENTION)


@story()
def refused_and_done(history: History) -> None:
    """The answer says that another request runs, but this one had the effect."""
    history.effects[-1] = replace(history.effects[-1], request="request-4")


@story()
def failure_kept(history: History) -> None:
    """The writes of a 500 were committed."""
    history.effects.append(
        replace(history.effects[-1], nonce="n9", request="request-2", outcome=500)
    )


@story()
def refusal_lost(history: History) -> None:
    """The writes of a 400 were not."""
    history.effects.pop(0)


@story()
def ran_for_nothing(history: History) -> None:
    """The view ran before the replay."""
    history.runs.append(Run(history.exchanges[-2].request, 2))


@story()
def ran_for_a_mismatch(history: History) -> None:
    """The view ran before the 422."""
    history.runs.append(Run(history.exchanges[-1].request, 2))


@story()
def ran_for_a_half(history: History) -> None:
    """The connection broke in the middle of a request, and the view ran."""
    history.exchanges[0] = replace(history.exchanges[0], payload='{"cake": "le')
    history.runs.append(Run(history.exchanges[0].request, 1))


@story()
def ran_twice(history: History) -> None:
    """The view ran twice for one request."""
    history.runs.append(Run(history.exchanges[5].request, 2))


@story()
def false_mismatch(history: History) -> None:
    """Refused, though every request with the key was the same."""
    del history.exchanges[-1]
    history.refused(1.1, 422, "key_reused")


@story(BRIEF)
def replayed_after_expiry(history: History) -> None:
    """The reply outlives its retention."""
    history.replayed(1.8 + RETENTION + LEASE)


@story(RECALLED)
def effect_before_recall(history: History) -> None:
    """Two effects, though the key was never expired."""
    history.succeeded(3.0, "n2")


@story(RECALLED)
def forgotten_before_recall(history: History) -> None:
    """A conflict after the success, long before the key is expired."""
    history.refused(3.0, 409, "in_progress")
    history.recalled(5.0)


@story(RECALLED)
def replayed_after_recall(history: History) -> None:
    """The reply outlives its expiry, though no entry was put back."""
    history.recalled(3.0)
    history.replayed(3.2)


@story(RECALLED)
def replayed_long_after_recall(history: History) -> None:
    """The replay cache missed the expiry, and has answered for longer than an entry may live."""
    history.recalled(3.0, forgotten=False, restored=True)
    history.replayed(3.2 + MAX_AGE)


@story()
def forgotten_behind_a_fence(history: History) -> None:
    """A conflict so long after the success that no fence can be left of it."""
    history.cache = {"is_fenced": True}
    history.refused(1.8 + FENCED, 409, "in_progress")


@story()
def unknown_error(history: History) -> None:
    """What the cache has raised is a 500."""
    history.asked(3.0, 500, code="TimeoutError")


@story()
def error_without_fault(history: History) -> None:
    """The store is unavailable on a calm day."""
    history.refused(CALM_SINCE + 1, 503, "unavailable")


@story()
def unexpected_answer(history: History) -> None:
    """An answer that no page of the documentation knows."""
    history.refused(1.1, 409, "attempts_exhausted")


@story()
def unfinished(history: History) -> None:
    """No answer, or a record in progress, after the healing."""
    history.unfinished.add(history.operation)


DOCTORED = [
    ("effect_twice", effect_before_recall),
    ("forgotten_reply", forgotten_before_recall),
    ("forgotten_reply", forgotten_behind_a_fence),
    ("replayed_after_recall", replayed_after_recall),
    ("replayed_after_recall", replayed_long_after_recall),
    ("unexpected_answer", unknown_error),
    ("effect_twice", effect_twice),
    ("effect_twice", effect_before_expiry),
    ("success_without_effect", success_without_effect),
    ("strangers_reply", strangers_reply),
    ("wrong_reply", wrong_reply),
    ("replies_differ", replies_differ),
    ("two_first_replies", two_first_replies),
    ("unmarked_replay", unmarked_replay),
    ("forgotten_reply", forgotten_reply),
    ("forgotten_reply", forgotten_request),
    ("forgotten_reply", forgotten_while_faults_are_on),
    ("forgotten_reply", forgotten_before_expiry),
    ("refused_and_done", refused_and_done),
    ("failure_kept", failure_kept),
    ("refusal_lost", refusal_lost),
    ("ran_for_nothing", ran_for_nothing),
    ("ran_for_nothing", ran_for_a_mismatch),
    ("ran_for_nothing", ran_for_a_half),
    ("ran_for_nothing", ran_twice),
    ("false_mismatch", false_mismatch),
    ("replayed_after_expiry", replayed_after_expiry),
    ("error_without_fault", error_without_fault),
    ("unexpected_answer", unexpected_answer),
    ("unfinished", unfinished),
]


@pytest.mark.parametrize(("rule", "history"), DOCTORED)
def test_doctored_history_is_found(rule: str, history: History) -> None:
    """Each violation is found by the rule that is there for it."""
    assert rule in history.violations()


def test_each_rule_has_a_doctored_history() -> None:
    """No rule is there that never found anything."""
    assert {rule for rule, _ in DOCTORED} == {rule.__name__ for rule in RULES} | {"unfinished"}


@pytest.mark.parametrize("path", PROMISES)
def test_ordinary_history_is_fine(path: str) -> None:
    """Failures, conflicts and replays are no violations."""
    assert not ordinary(path).violations()


def test_unknown_outcome_may_be_an_effect() -> None:
    """Neither a lost reply nor an unavailable store says that nothing was done."""
    for number in (0, 1):
        history = ordinary()
        history.effects[-1] = replace(
            history.effects[-1], request=history.exchanges[number].request
        )
        history.exchanges[5] = replace(history.exchanges[5], marked=True)
        history.runs.clear()
        assert not history.violations()


def test_error_of_the_storm_is_excused() -> None:
    """A later request may meet a fault, not a failure of the view."""
    history = ordinary()
    history.refused(3.0, 503, "unavailable")
    history.asked(3.2, 500, code="OperationalError")
    history.asked(3.4, None)
    assert not history.violations()


def test_expired_key_lives_again() -> None:
    """A second effect after the retention, with its own reply and replays."""
    history = ordinary(BRIEF)
    later = 2.0 + RETENTION
    history.succeeded(later, "n2")
    history.replayed(later + 0.2, "n2")
    assert not history.violations()


def test_recalled_key_lives_again() -> None:
    """A second effect after the expiry, with its own replays; a late old one is a violation."""
    history = ordinary(RECALLED)
    history.recalled(3.0)
    history.replayed(3.05)
    history.succeeded(3.2, "n2")
    history.replayed(3.4, "n2")
    assert not history.violations()


@pytest.mark.parametrize(
    ("cache", "parts"),
    [
        ({}, {"forgotten": False}),
        ({}, {"restored": True}),
        ({"may_lose": True}, {}),
        ({"restored": [Operation("", "a-key-of-nobody", RECALLED)]}, {}),
    ],
    ids=["not told", "brought back", "failover", "planted"],
)
def test_lost_invalidation_is_excused_for_a_while(
    cache: dict[str, Any], parts: dict[str, Any]
) -> None:
    """As long as an entry lives at most."""
    history = ordinary(RECALLED)
    history.cache = cache
    history.recalled(3.0, **parts)
    history.replayed(3.0 + MAX_AGE)
    assert not history.violations()


@pytest.mark.parametrize("done", [None, False])
def test_recall_that_may_not_have_happened_forbids_nothing(done: bool | None) -> None:
    """The connection broke, or the key was in progress: the reply may still be there."""
    history = ordinary(RECALLED)
    history.recalled(3.0, done=done)
    history.replayed(3.2)
    assert not history.violations()
    history.asked(3.4, 201, "n2")
    history.ran(3.4)
    assert bool(history.violations()) is (done is False)


def test_conflict_behind_a_late_fence_is_excused() -> None:
    """A worker that the database had refused was slow to put it up."""
    history = ordinary()
    history.cache = {"is_fenced": True}
    history.refused(3.0, 409, "in_progress")
    assert not history.violations()


def test_view_without_a_transaction_may_leave_two_effects() -> None:
    """Its lease was over, but all callers get the same reply."""
    history = ordinary(PLAIN)
    history.effects.append(replace(history.effects[-1], nonce="n9", request="request-0"))
    history.effects.append(replace(history.effects[-1], nonce="n8", outcome=500))
    assert not history.violations()
    history.replayed(3.0, "n9")
    assert history.violations()["replies_differ"]


def test_violation_tells_the_story_of_its_key() -> None:
    """All requests and effects of the key, in the order of time."""
    everything = cases(effect_twice.exchanges, effect_twice.effects, effect_twice.runs, CALM_SINCE)
    (violation,) = check(everything, ())
    assert str(violation) == "effect_twice: n1 and n9"
    assert len(violation.story) == len(effect_twice.exchanges) + len(effect_twice.effects)


def test_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Each process has its own file."""
    written = ordinary().exchanges
    for number, exchange in enumerate(written):
        diary = Diary(tmp_path / f"exchanges-{number % 2}.jsonl")
        diary.add(exchange)
        diary.flush()
    assert sorted(exchanges(tmp_path), key=lambda exchange: exchange.request) == written


def test_recalls_are_read_as_they_were_written(tmp_path: Path) -> None:
    """One line each."""
    history = ordinary(RECALLED)
    history.recalled(1.0)
    history.recalled(2.0, done=None, restored=True)
    lines = (json.dumps(asdict(recall)) for recall in history.recalls)
    (tmp_path / RECALLS).write_text("".join(f"{line}\n" for line in lines))
    assert list(recalls(tmp_path)) == history.recalls


def test_same_seed_makes_the_same_plan() -> None:
    """And another seed another one."""
    assert plan(7, 60, server=True) == plan(7, 60, server=True)
    assert plan(7, 60, server=True) != plan(8, 60, server=True)


def test_longer_plan_begins_like_a_shorter_one() -> None:
    """So a violation found late can be looked for with the same beginning."""
    short = plan(7, 30, server=True)
    assert plan(7, 60, server=True)[: len(short)] == short


def test_replay_cache_is_broken_beside_everything_else() -> None:
    """The other faults are the same with it and without."""
    without, beside = plan(7, 60, server=True), plan(7, 60, server=True, cache=True)
    assert [fault for fault in beside if not fault.kind.startswith("cache-")] == without
    assert _counted(beside)[Kind.CACHE_FLUSH] > 5


def test_waits_are_judged() -> None:
    """Too long, in vain twice, and too soon; but not those of a worker that stood still."""
    fine = [
        Wait(1, "a", 1.0, 1.3, failed=True),
        Wait(1, "b", 1.25, 1.4, failed=False),
        Wait(2, "c", 1.5, 1.51, failed=False),
        Wait(1, "d", 2.4, 2.41, failed=False),
        Wait(1, "e", 2.5, 2.51, failed=False),
    ]
    assert not list(impatient(fine, []))
    long = Wait(3, "f", 3.0, 16.0, failed=True)
    assert len(list(impatient([*fine, long], []))) == 1
    assert not list(impatient([*fine, long], [Freeze(3, 4.0, 5.0)]))
    assert len(list(impatient([*fine, Wait(2, "a", 1.4, 1.7, failed=True)], []))) == 1
    assert len(list(impatient([*fine, Wait(1, "g", 1.9, 1.91, failed=False)], []))) == 1


def _counted(faults: list[Fault]) -> Counter[Kind]:
    return Counter(fault.kind for fault in faults)


def test_ten_minutes_are_what_was_promised() -> None:
    """3,000 kills, 150 zombies, 40 restarts and cut-offs."""
    faults = _counted(plan(1, 600, server=True, cache=True))
    assert faults[Kind.KILL] >= 3000
    assert faults[Kind.FREEZE] + faults[Kind.ZOMBIE] >= 170
    assert faults[Kind.RESTART] + faults[Kind.CUT_ALL] >= 40
    assert set(faults) == set(Kind)


def test_sqlite_has_nothing_to_cut() -> None:
    """Its workers are killed and frozen."""
    kinds = set(_counted(plan(1, 60, server=False)))
    assert kinds == {Kind.KILL, Kind.FREEZE, Kind.AMBUSH, Kind.ZOMBIE}


def test_zombies_outlast_the_lease() -> None:
    """Every worker is frozen for longer than its claim is trusted."""
    frozen = [f for f in plan(1, 600, server=True) if f.kind in (Kind.FREEZE, Kind.ZOMBIE)]
    assert min(fault.seconds for fault in frozen) > LEASE
