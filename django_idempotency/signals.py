"""What a project may listen to, each sent after the fact, with ``event``.

A receiver's exception is logged and never reaches a request. ``sender`` is the record's model,
``event`` an :class:`~django_idempotency.monitoring.events.Event`.
"""

from django.dispatch import Signal

#: A request claimed its key, and its view runs.
claimed = Signal()
#: The view's writes and its response are committed.
completed = Signal()
#: A repeated request got the saved response.
replayed = Signal()
#: A duplicate of a running request was sent away.
conflicted = Signal()
#: The key came with another request and was refused.
mismatched = Signal()
#: An attempt left no outcome, or failed (``event.error``), and freed the key.
released = Signal()
#: A request took the key over from an attempt that died, and its view runs.
taken_over = Signal()
#: A key answers no more: somebody expired it, or a request came after its retention.
expired = Signal()
