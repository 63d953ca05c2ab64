"""Spans and a counter for OpenTelemetry, and a counter for Prometheus, where they are installed.

Both are extras, and neither has to be switched on. OpenTelemetry's API does nothing without an SDK;
Prometheus's counter is in its default registry, which projects export anyway.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .events import Event, listen

_NAME = "django_idempotency"
_DESCRIPTION = "What happened to idempotency keys."

try:
    from opentelemetry import metrics, trace
except ImportError:  # an extra
    _HAS_OPENTELEMETRY = False
else:
    _HAS_OPENTELEMETRY = True
    _events = metrics.get_meter(_NAME).create_counter(
        "idempotency.events", description=_DESCRIPTION
    )

try:
    from prometheus_client import Counter
except ImportError:  # an extra
    _HAS_PROMETHEUS = False
else:
    _HAS_PROMETHEUS = True
    _total = Counter("django_idempotency_events_total", _DESCRIPTION, ["event", "method"])


def span() -> AbstractContextManager[Any]:
    """The span of a request's trace that holds the work on its key and its view."""
    if not _HAS_OPENTELEMETRY:
        return nullcontext()
    # The request's own span reports exceptions; they are seldom errors of this package.
    return trace.get_tracer(_NAME).start_as_current_span(
        "idempotency", record_exception=False, set_status_on_exception=False
    )


def _to_opentelemetry(sender: Any, event: Event, **kwargs: Any) -> None:
    _events.add(1, {"event": event.name, "method": event.method})
    current = trace.get_current_span()
    current.add_event(f"idempotency.{event.name}", {"idempotency.key_hash": event.key_hash})
    current.set_attribute("idempotency.event", event.name)
    if event.attempt is not None:
        current.set_attribute("idempotency.attempt", event.attempt)


def _to_prometheus(sender: Any, event: Event, **kwargs: Any) -> None:
    _total.labels(event.name, event.method).inc()


def connect() -> None:
    """Listen to every signal, for each exporter that is installed."""
    if _HAS_OPENTELEMETRY:
        listen(_to_opentelemetry, "opentelemetry")
    if _HAS_PROMETHEUS:
        listen(_to_prometheus, "prometheus")
