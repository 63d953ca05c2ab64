"""The replay cache in a real Redis (Valkey): what it costs, and that it is never wrong.

The tests break a server, empty it and fill it with entries of strangers; the database decides.
"""

#: Seconds a request may wait for a Redis that hangs: much for a cache, little for a busy machine.
TIMEOUT_SECONDS = 0.3
