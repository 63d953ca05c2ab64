"""The story of a covered request.

:mod:`.admission` says who may run it, and :mod:`.attempts` owns the transaction of its view.

    read key -> scope -> fingerprint -> claim -> run the view in a transaction -> save -> commit

What is guaranteed, sentence by sentence:

- The view's writes on the record's database and the saved response commit in one transaction.
- A response is replayed only if that transaction committed.
- With and without a key the view runs in the same transaction, under the same rule.
- An attempt that raised or answered 5xx leaves nothing but a free key; one that died leaves a row
  lock nobody holds.
- After a COMMIT that raised, the record is asked what became of it before anything is said.
"""

from collections.abc import Collection

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .admission import admit
from .attempts import AsyncView, Attempt, View
from .keys import Key
from .policy import Policy
from .telemetry import span


def execute(
    request: HttpRequest,
    policy: Policy,
    key: Key | None,
    view: View,
    *,
    apart: Collection[str] = (),
) -> HttpResponseBase:
    """The view's response, or the one an earlier request with the same key got.

    ``request`` is what the view sees (REST framework's Request, too); ``view`` runs it and renders
    its response; ``apart`` are aliases the view keeps out of ATOMIC_REQUESTS. Raises an
    IdempotencyError, or whatever the view raises.
    """
    with span():
        admitted = admit(request, policy, key, apart)
        if isinstance(admitted, Attempt):
            return admitted.run(view)
        return view() if admitted is None else admitted


async def aexecute(
    request: HttpRequest, policy: Policy, key: Key | None, view: AsyncView
) -> HttpResponseBase:
    """The same for a view that is a coroutine: outside of any transaction, under a lease."""
    with span():
        admitted = await sync_to_async(admit)(request, policy.for_a_coroutine(), key)
        if isinstance(admitted, Attempt):
            return await admitted.arun(view)
        return await view() if admitted is None else admitted
