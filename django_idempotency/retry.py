"""How often a call to another service is tried within one request; tenacity does the work."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import tenacity

from .exceptions import RetriesExhaustedError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A call that raises an exception of ``on`` is tried ``attempts`` times in one request at most.

    The pause before the n-th repetition is a random part of ``base * factor ** (n - 1)``, and at
    most of ``cap`` (full jitter). No pause begins that would end after the ``deadline``, counted
    from the first try. Then the request gets 503, and the next attempt, by the client or by the
    completer, continues with the call.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog.
    """

    attempts: int = 3
    base: timedelta = timedelta(milliseconds=100)
    factor: float = 2.0
    cap: timedelta = timedelta(seconds=5)
    on: type[BaseException] | tuple[type[BaseException], ...] = (ConnectionError, TimeoutError)
    # Clients give up waiting for a reply after half a minute at the latest.
    deadline: timedelta = timedelta(seconds=10)

    def __post_init__(self) -> None:
        durations = (self.base, self.cap, self.deadline)
        if self.attempts < 1 or self.factor < 1 or min(durations) < timedelta():
            raise ValueError("attempts and factor are 1 or more, and no duration is negative")

    def _pause(self, state: tenacity.RetryCallState) -> float:
        longest = self.base.total_seconds() * self.factor ** min(state.attempt_number - 1, 64)
        return random.uniform(0, min(longest, self.cap.total_seconds()))  # noqa: S311

    def run(self, function: Callable[[], T], never: tuple[type[BaseException], ...] = ()) -> T:
        """Call ``function`` until it returns, and return its result.

        Exceptions that are not in ``on``, or are in ``never``, are raised at once; the last of the
        others becomes the cause of a RetriesExhaustedError.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts)
            | tenacity.stop_before_delay(self.deadline),
            wait=self._pause,
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, self.on) and not isinstance(error, never)
            ),
        )
        try:
            return retrying(function)
        except tenacity.RetryError as error:
            raise RetriesExhaustedError from error.last_attempt.exception()
