"""How often a call is tried: so many times, after random pauses, until a deadline."""

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
    """The time a call takes, and the pauses, without waiting for either."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        """The moment."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """A pause."""
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The one tenacity looks at."""
    clock = Clock()
    monkeypatch.setattr(tenacity.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(tenacity.nap.time, "sleep", clock.sleep)
    return clock


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Every pause is as long as it may be; between which bounds it was drawn."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    return drawn


class Calls:
    """A function that counts its calls, each of which takes a while and raises the next error."""

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
    """No pause, one call."""
    calls = Calls()
    assert Retry().run(calls) == "done"
    assert (calls.count, clock.pauses) == (1, [])


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_failures_within_the_attempts_are_retried(failures: int, clock: Clock) -> None:
    """The last of four may still succeed."""
    calls = Calls(*[DownError()] * failures)
    assert Retry(attempts=4).run(calls) == "done"
    assert calls.count == failures + 1
    assert len(clock.pauses) == failures


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts_are_used_up(attempts: int, clock: Clock) -> None:
    """The cause is the last error; none after the last pause, and no pause after the last."""
    errors = [DownError(number) for number in range(9)]
    calls = Calls(*errors)
    with pytest.raises(RetriesExhaustedError) as raised:
        Retry(attempts=attempts).run(calls)
    assert calls.count == attempts
    assert len(clock.pauses) == attempts - 1
    assert raised.value.__cause__ is errors[attempts - 1]


@pytest.mark.parametrize("error", [DeclinedError(), DiedError(), KeyboardInterrupt()])
def test_other_errors_are_raised_at_once(error: BaseException, clock: Clock) -> None:
    """As they are, after one call."""
    calls = Calls(error)
    with pytest.raises(type(error)) as raised:
        Retry(attempts=5).run(calls)
    assert raised.value is error
    assert (calls.count, clock.pauses) == (1, [])


@pytest.mark.parametrize(
    "on", [DownError, (DownError,), (ValueError, ConnectionError), Exception], ids=repr
)
def test_errors_are_named_by_class_or_classes(on: Any, clock: Clock) -> None:
    """As in an except clause."""
    assert Retry(on=on).run(Calls(DownError())) == "done"


def test_connection_and_time_outs_are_retried_by_default(clock: Clock) -> None:
    """What says nothing about the request itself."""
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
    # Tenacity asks once more before it stops.
    assert [low for low, _ in longest] == [0] * 7
    assert clock.pauses == pytest.approx([0.1, 0.3, 0.9, 2.7, 5, 5])


def test_pauses_are_random(clock: Clock) -> None:
    """A thousand callers that failed at once do not come back at once; each bound is kept."""
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
    """Counted from the first try, with the time the calls take."""
    retry = Retry(attempts=99, base=SECOND, factor=1, deadline=SECOND * 10)
    calls = Calls(*[DownError()] * 99, clock=clock, takes=takes)
    began = clock.now
    with pytest.raises(RetriesExhaustedError):
        retry.run(calls)
    assert calls.count == count
    assert clock.now - takes - began < 10


def test_deadline_of_nothing_tries_once(clock: Clock) -> None:
    """And a success is one, however late."""
    retry = Retry(deadline=timedelta())
    with pytest.raises(RetriesExhaustedError):
        retry.run(Calls(DownError()))
    assert retry.run(Calls(clock=clock, takes=99)) == "done"


def test_a_retry_is_used_again_and_again(clock: Clock) -> None:
    """It stands in a module, and remembers nothing of a call."""
    retry = Retry(attempts=2)
    for _ in range(3):
        assert retry.run(Calls(DownError())) == "done"


def test_thousands_of_tries_are_only_that(clock: Clock) -> None:
    """The bound does not outgrow what a number can hold."""
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
    """Where it is written down."""
    with pytest.raises(ValueError, match="1 or more"):
        Retry(**options)


def test_options_have_names() -> None:
    """Four durations in a row would be a riddle."""
    with pytest.raises(TypeError):
        Retry(3)  # type: ignore[call-arg]


def test_what_is_retried_may_be_any_callable(clock: Clock) -> None:
    """Its result is handed on as it is."""
    result = object()
    function: Callable[[], object] = lambda: result  # noqa: E731
    assert Retry().run(function) is result
