"""How often a call is tried: a number of times, after random pauses, until a deadline."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import tenacity

from django_idempotency.exceptions import RetriesExhaustedError
from django_idempotency.retry import Retry
from tests.support.stage import DeclinedError, DiedError, DownError

pytestmark = pytest.mark.once

SECOND = timedelta(seconds=1)


class Clock:
    """Simulates the duration of calls and pauses, without waiting."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        """The current time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """A pause, which only moves the clock."""
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that tenacity uses."""
    clock = Clock()
    monkeypatch.setattr(tenacity.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(tenacity.nap.time, "sleep", clock.sleep)
    return clock


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Every pause is as long as possible; returns the bounds between which they were drawn."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    return drawn


class Calls:
    """A function that counts its calls; each takes a while and raises the next error."""

    def __init__(
        self, *errors: BaseException, clock: Clock | None = None, takes: float = 0
    ) -> None:
        self.errors = list(errors)
        self.count = 0
        self._clock = clock
        self._takes = takes

    def __call__(self) -> str:
        self.count += 1
        if self._clock:
            self._clock.now += self._takes
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_first_success_is_the_result(clock: Clock) -> None:
    """One call and no pause."""
    calls = Calls()
    assert Retry().run(calls) == "done"
    assert (calls.count, clock.pauses) == (1, [])


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_failures_within_the_attempts_are_retried(failures: int, clock: Clock) -> None:
    """The last of four attempts may still succeed."""
    calls = Calls(*[DownError()] * failures)
    assert Retry(attempts=4).run(calls) == "done"
    assert calls.count == failures + 1
    assert len(clock.pauses) == failures


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts_are_used_up(attempts: int, clock: Clock) -> None:
    """The cause is the last error; no pause comes after the last attempt."""
    errors = [DownError(number) for number in range(9)]
    calls = Calls(*errors)
    with pytest.raises(RetriesExhaustedError) as raised:
        Retry(attempts=attempts).run(calls)
    assert calls.count == attempts
    assert len(clock.pauses) == attempts - 1
    assert raised.value.__cause__ is errors[attempts - 1]


@pytest.mark.parametrize("error", [DeclinedError(), DiedError(), KeyboardInterrupt()])
def test_other_errors_are_raised_at_once(error: BaseException, clock: Clock) -> None:
    """Unchanged, after one call."""
    calls = Calls(error)
    with pytest.raises(type(error)) as raised:
        Retry(attempts=5).run(calls)
    assert raised.value is error
    assert (calls.count, clock.pauses) == (1, [])


@pytest.mark.parametrize(
    "on", [DownError, (DownError,), (ValueError, ConnectionError), Exception], ids=repr
)
def test_errors_are_named_by_class_or_classes(on: Any, clock: Clock) -> None:
    """As in an ``except`` clause."""
    assert Retry(on=on).run(Calls(DownError())) == "done"


def test_connection_errors_and_time_outs_are_retried_by_default(clock: Clock) -> None:
    """These errors do not depend on the request."""
    assert Retry().run(Calls(ConnectionResetError(), TimeoutError())) == "done"
    with pytest.raises(ValueError, match="no"):
        Retry().run(Calls(ValueError("no")))


def test_pauses_are_drawn_between_nothing_and_a_growing_bound(
    clock: Clock, longest: list[tuple[float, float]]
) -> None:
    """Full jitter: base * factor ** (n - 1), at most the cap."""
    retry = Retry(attempts=7, base=SECOND / 10, factor=3, cap=SECOND * 5, deadline=SECOND * 999)
    with pytest.raises(RetriesExhaustedError):
        retry.run(Calls(*[DownError()] * 7))
    # Tenacity draws one more pause before it stops.
    assert [low for low, _ in longest] == [0] * 7
    assert clock.pauses == pytest.approx([0.1, 0.3, 0.9, 2.7, 5, 5])


def test_pauses_are_random(clock: Clock) -> None:
    """A thousand callers that fail together do not return together; no bound is exceeded."""
    random.seed(7)
    retry = Retry(attempts=4, base=SECOND, factor=2, cap=SECOND * 3, deadline=SECOND * 999)
    pauses: list[list[float]] = []
    for _ in range(1000):
        clock.pauses = []
        assert retry.run(Calls(*[DownError()] * 3)) == "done"
        pauses.append(clock.pauses)
    for bound, drawn in zip((1.0, 2.0, 3.0), zip(*pauses, strict=True), strict=True):
        assert 0 <= min(drawn) < bound * 0.02
        assert bound * 0.98 < max(drawn) <= bound
        assert sum(drawn) / len(drawn) == pytest.approx(bound / 2, rel=0.1)
        assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(("takes", "count"), [(0.0, 10), (1.0, 5), (4.0, 2), (9.0, 1), (99.0, 1)])
def test_no_pause_begins_that_would_end_after_the_deadline(
    takes: float, count: int, clock: Clock, longest: list[Any]
) -> None:
    """It counts from the first try and includes the calls' own time."""
    retry = Retry(attempts=99, base=SECOND, factor=1, deadline=SECOND * 10)
    calls = Calls(*[DownError()] * 99, clock=clock, takes=takes)
    began = clock.now
    with pytest.raises(RetriesExhaustedError):
        retry.run(calls)
    assert calls.count == count
    assert clock.now - takes - began < 10


def test_deadline_of_zero_tries_once(clock: Clock) -> None:
    """A success counts, even after the deadline."""
    retry = Retry(deadline=timedelta())
    with pytest.raises(RetriesExhaustedError):
        retry.run(Calls(DownError()))
    assert retry.run(Calls(clock=clock, takes=99)) == "done"


def test_retry_can_be_used_again(clock: Clock) -> None:
    """A Retry is a module's constant, and keeps no state between calls."""
    retry = Retry(attempts=2)
    for _ in range(3):
        assert retry.run(Calls(DownError())) == "done"


def test_thousands_of_attempts_do_not_overflow(clock: Clock) -> None:
    """The bound of the pauses does not overflow."""
    calls = Calls(*[DownError()] * 1200)
    assert Retry(attempts=2000, cap=timedelta(), deadline=SECOND * 9999).run(calls) == "done"


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"factor": 0.5},
        {"base": -SECOND},
        {"cap": -SECOND},
        {"deadline": -SECOND},
    ],
    ids=repr,
)
def test_impossible_retry_is_refused(options: dict[str, Any]) -> None:
    """When it is made, not when it is used."""
    with pytest.raises(ValueError, match="1 or more"):
        Retry(**options)


def test_options_are_given_by_name() -> None:
    """Four durations without names could not be read."""
    with pytest.raises(TypeError):
        Retry(3)  # type: ignore[call-arg]


def test_any_callable_can_be_retried(clock: Clock) -> None:
    """Its result is returned unchanged."""
    result = object()
    function: Callable[[], object] = lambda: result  # noqa: E731
    assert Retry().run(function) is result
