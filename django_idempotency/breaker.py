"""A circuit breaker: what does not answer is left alone for a while."""

import time
from threading import Lock


class Breaker:
    """Lets everybody through until something failed; then one caller each ``interval`` seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open_until = 0.0
        self._failed_at = 0.0

    def allows(self, interval: float) -> bool:
        """Whether to try; the one who may after a failure keeps the others away meanwhile."""
        if not self._open_until:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._open_until:
                return False
            self._open_until = now + interval
            return True

    def failed(self, interval: float) -> None:
        """Keep everybody away for an interval."""
        self._failed_at = time.monotonic()
        self._open_until = self._failed_at + interval

    def succeeded(self, began: float) -> None:
        """Let everybody through, unless something has failed since ``began``, a monotonic time.

        Where it is several servers, what was under way to another one says nothing of that.
        """
        if began >= self._failed_at:
            self._open_until = 0.0
