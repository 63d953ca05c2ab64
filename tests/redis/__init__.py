"""The replay cache in a real Redis (Valkey): what it costs, and that it is never wrong.

A server is broken, emptied and filled with other people's entries here, in front of a database that
has the last word.
"""

#: Seconds a request may wait for a Redis that hangs: much for a cache, little for a busy machine.
TIMEOUT_SECONDS = 0.3
