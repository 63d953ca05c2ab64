"""Signals that tell a project what happened to a key; each is sent after the fact.

``sender`` is the record's model, ``event`` an :class:`~django_idempotency.monitoring.events.Event`.
A receiver's exception is logged and never reaches a request.
"""

from django.dispatch import Signal

#: A request claimed its key, and its view runs.
claimed = Signal()
#: The view's writes and its response are committed.
completed = Signal()
#: A repeated request got the saved response.
replayed = Signal()
#: A duplicate of a running request was refused.
conflicted = Signal()
#: A request was refused because its key belongs to another request.
mismatched = Signal()
#: An attempt had no outcome, or failed (``event.error``), and the key is free.
released = Signal()
#: A request took over the claim of a dead owner, and its view runs.
taken_over = Signal()
#: A record expired: by hand, or because a request found its retention over.
expired = Signal()
