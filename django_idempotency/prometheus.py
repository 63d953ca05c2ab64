"""A counter for Prometheus, where its client is installed (the extra ``prometheus``).

It is in the client's default registry, which whatever exports a project's metrics exports, too.
"""

from typing import Any

from .events import Event, listen

try:
    from prometheus_client import Counter
except ImportError:  # an extra
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True
    _counter = Counter(
        "django_idempotency_events_total",
        "What happened to idempotency keys.",
        ["event", "method"],
    )


def _observe(sender: Any, event: Event, **kwargs: Any) -> None:
    _counter.labels(event.name, event.method).inc()


def connect() -> None:
    """Listen to every signal, where there is somebody to count for."""
    if _IS_INSTALLED:
        listen(_observe, "prometheus")
