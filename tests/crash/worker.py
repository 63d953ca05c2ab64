"""A process that sends one request through the test app and stops at a named point of it.

``python -m tests.crash.worker POINT KEY ACT`` prints ``stopped`` there and waits to be killed,
frozen or thawed (a line on standard input lets it go on); it prints the status at the end.
"""

import sys
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402
from django.db.backends.base.base import BaseDatabaseWrapper  # noqa: E402
from django.test import Client  # noqa: E402

from django_idempotency.protocol.claims import Claim  # noqa: E402
from django_idempotency.storage.records import Store  # noqa: E402
from django_idempotency.storage.values import StoredResponse  # noqa: E402
from tests.app import views  # noqa: E402


def stop() -> None:
    """Tell the parent and wait."""
    print("stopped", flush=True)
    sys.stdin.readline()


def _before(owner: Any, name: str, when: Callable[[], bool] = lambda: True) -> None:
    original = getattr(owner, name)

    def stopping(*args: Any, **kwargs: Any) -> Any:
        if when():
            stop()
        return original(*args, **kwargs)

    setattr(owner, name, stopping)


def _after(owner: Any, name: str, when: Callable[[], bool] = lambda: True) -> None:
    original = getattr(owner, name)

    def stopping(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if when():
            stop()
        return result

    setattr(owner, name, stopping)


_completed: list[bool] = []


def _note_completion() -> None:
    original = Claim.complete

    def noting(self: Claim, response: StoredResponse, *, commit: bool = False) -> None:
        original(self, response, commit=commit)
        _completed.append(True)

    Claim.complete = noting  # type: ignore[method-assign]


def _in_view() -> None:
    order = views.order

    def stopping(request: Any, nonce: str) -> Any:
        stop()
        return order(request, nonce)

    views.ACTS["order"] = stopping


def _before_commit() -> None:
    if connection.vendor == "postgresql":
        # The message that brings the response brings COMMIT, too.
        _before(Store, "_settle_and_commit")
    else:
        _before(BaseDatabaseWrapper, "commit", lambda: bool(_completed))


POINTS: dict[str, Callable[[], None]] = {
    "after-claim": lambda: _before(Claim, "lock"),
    "in-view": _in_view,
    "before-commit": _before_commit,
    "after-commit": lambda: _after(BaseDatabaseWrapper, "commit", lambda: bool(_completed)),
}


def main(point: str, key: str, path: str) -> None:
    """Stop at ``point`` of one request."""
    _note_completion()
    POINTS[point]()
    response = Client().post(path, headers={"Idempotency-Key": key})
    print(response.status_code, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
