"""What is begun for a client goes on to its end, also when the client has gone.

Django cancels an async view whose client hangs up. Half an order helps nobody: she comes back with
the same key, and wants the reply.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

T = TypeVar("T")

logger = logging.getLogger("django_idempotency")

# asyncio itself keeps weak references only.
_orphans: set[asyncio.Task[Any]] = set()


def _bury(task: asyncio.Task[Any]) -> None:
    _orphans.discard(task)
    if not task.cancelled() and (error := task.exception()):
        logger.error("a request whose client had gone failed", exc_info=error)


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns; a cancelled caller leaves, and ``work`` goes on without it."""
    left = False

    async def whole() -> T:
        try:
            return await work
        finally:
            if left:
                # Django closes connections at the end of the request, which has been.
                await sync_to_async(connections.close_all)()

    task = asyncio.create_task(whole())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        left = True
        _orphans.add(task)
        task.add_done_callback(_bury)
        raise
