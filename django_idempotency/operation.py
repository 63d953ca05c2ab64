"""What a running view may ask of its own operation, and tell it."""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.http import HttpRequest

from .responses import Verdict
from .store import Intent

_running: ContextVar["Operation | None"] = ContextVar("idempotent_operation", default=None)


class Operation:
    """The operation a covered request stands for: ``request.idempotency`` in the view.

    It exists without a key too; ``key``, ``scope`` and ``record_id`` are None then.
    """

    def __init__(self, request: HttpRequest, intent: Intent | None, attempt: int) -> None:
        self.request = request
        self.intent = intent
        self.key = intent.key if intent else None
        self.scope = intent.scope if intent else None
        self.record_id = intent.id if intent else None
        #: 1 for the first attempt; attempts that answered without an outcome do not count.
        self.attempt = attempt
        self.wish: Verdict | None = None

    def release(self) -> None:
        """The response will be no outcome: the key is freed, the writes stay."""
        self.wish = Verdict.RELEASE

    def rollback(self) -> None:
        """The writes will be undone and the key freed, whatever the view returns."""
        self.wish = Verdict.ROLL_BACK

    def keep(self) -> None:
        """The writes will be committed and the response kept, whatever its status."""
        self.wish = Verdict.KEEP

    def downstream_key(self, name: str) -> str:
        """A key for another service's idempotency, as a UUID's text.

        It depends on scope, key, fingerprint and ``name`` only, so that every attempt sends the
        same. Raises ValueError where the request has no key.
        """
        if self.intent is None:
            raise ValueError("a request without an idempotency key has no downstream keys")
        intent = self.intent
        sha = hashlib.sha256()
        for part in (intent.scope.encode(), intent.key.encode(), intent.fingerprint, name.encode()):
            sha.update(len(part).to_bytes(4, "big") + part)
        return str(uuid.UUID(bytes=sha.digest()[:16], version=5))


def current_operation() -> Operation | None:
    """The operation whose view is running in this context, or None."""
    return _running.get()


@contextmanager
def running(operation: Operation) -> Iterator[None]:
    """Make ``operation`` the current one, here and on its request."""
    operation.request.idempotency = operation  # type: ignore[attr-defined]
    before = _running.set(operation)
    try:
        yield
    finally:
        _running.reset(before)
