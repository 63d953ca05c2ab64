"""The transactions of ATOMIC_REQUESTS, which a door opens in Django's place, and their order.

Several databases cannot commit as one. The one with the records commits last, so that a crash in
between may repeat the others' writes but never replays over missing ones.
"""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import IdempotencyRecord
from ..storage.transactions import own_blocks

# The alias whose transaction request_transactions() opened first.
_outermost: ContextVar[str | None] = ContextVar("outermost", default=None)


def _is_inside_request_transaction(connection: BaseDatabaseWrapper) -> bool:
    return bool(connection.atomic_blocks) and own_blocks(connection) == connection.atomic_blocks


def request_transactions(
    apart: Collection[str] = (), *, joined_only: bool = False
) -> AbstractContextManager[list[str]]:
    """Each ATOMIC_REQUESTS alias without a transaction gets Django's; yields these aliases.

    The aliases ``apart`` are left out; with ``joined_only`` so are all that are not inside the
    transaction of a TestCase. The records' database is the outermost, so that it commits last.
    """
    missing = [
        alias
        for alias, settings in connections.settings.items()
        # The settings, because to ask a connection would make it in this thread.
        if settings["ATOMIC_REQUESTS"]
        and alias not in apart
        and not own_blocks(connections[alias])
        and (connections[alias].in_atomic_block or not joined_only)
    ]
    return _opened(missing) if missing else nullcontext(missing)


@contextmanager
def _opened(missing: list[str]) -> Iterator[list[str]]:
    first = router.db_for_write(IdempotencyRecord)
    missing.sort(key=lambda alias: alias != first)
    with ExitStack() as stack:
        stack.callback(_outermost.reset, _outermost.set(missing[0]))
        for alias in missing:
            stack.enter_context(transaction.atomic(using=alias))
        yield missing


def commits_last(alias: str) -> bool:
    """Whether no request transaction of another database is open around a claim on ``alias``."""
    if _outermost.get() == alias:
        return True
    return not any(
        settings["ATOMIC_REQUESTS"] and _is_inside_request_transaction(connections[other])
        for other, settings in connections.settings.items()
        if other != alias
    )


class _Apart(set[str]):
    """Every alias, as Django's mark wants them, and those that the project itself keeps apart."""

    def __init__(self, apart: Collection[str]) -> None:
        super().__init__(connections)
        self.apart = set(apart)

    def add(self, alias: str) -> None:
        """Keep an alias apart; ``@transaction.non_atomic_requests`` calls it on such a set."""
        self.apart.add(alias)


def apart_of(view: Any) -> Collection[str]:
    """The aliases the project keeps out of a view's ATOMIC_REQUESTS."""
    aliases: Collection[str] = getattr(view, "_non_atomic_requests", ())
    return aliases.apart if isinstance(aliases, _Apart) else aliases


def owns_transactions(view: Any) -> bool:
    """Whether a door opens the transactions of ``view``, and not Django."""
    return isinstance(getattr(view, "_non_atomic_requests", None), _Apart)


def own_transactions(view: Any) -> None:
    """Django opens no transaction around ``view`` under ATOMIC_REQUESTS; the door does."""
    # A fresh set: functools.wraps shares the inner view's.
    view._non_atomic_requests = _Apart(apart_of(view))
