"""Spans and counters for OpenTelemetry, where its API is installed (the extra ``opentelemetry``).

Without an SDK the API does nothing, so nothing has to be switched on here.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .events import Event, listen

_NAME = "django_idempotency"

try:
    from opentelemetry import metrics, trace
except ImportError:  # an extra
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True
    _counter = metrics.get_meter(_NAME).create_counter(
        "idempotency.events", description="What happened to idempotency keys."
    )


def span() -> AbstractContextManager[Any]:
    """The part of a request's trace in which its key is looked at and its view is run."""
    if not _IS_INSTALLED:
        return nullcontext()
    # What is raised here is the request's to tell, and seldom an error of ours.
    return trace.get_tracer(_NAME).start_as_current_span(
        "idempotency", record_exception=False, set_status_on_exception=False
    )


def _observe(sender: Any, event: Event, **kwargs: Any) -> None:
    _counter.add(1, {"event": event.name, "method": event.method})
    current = trace.get_current_span()
    current.add_event(f"idempotency.{event.name}", {"idempotency.key_hash": event.key_hash})
    current.set_attribute("idempotency.event", event.name)
    if event.attempt is not None:
        current.set_attribute("idempotency.attempt", event.attempt)


def connect() -> None:
    """Listen to every signal, where there is something to tell it to."""
    if _IS_INSTALLED:
        listen(_observe, "telemetry")
