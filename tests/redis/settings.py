"""The suite's settings with the replay cache, for the processes that a test starts.

``IDEMPOTENCY_TEST_SECRETS``
    ``SECRET_KEY`` and its fallbacks, with commas between them.
``IDEMPOTENCY_TEST_INFLIGHT``
    ``1`` lets the cache answer duplicates of a running request, too.
``IDEMPOTENCY_TEST_WAITS``
    A file in which each question to Redis is noted, see :mod:`.waits`.
"""

import os
from datetime import timedelta

from tests import settings as suite
from tests.settings import *  # noqa: F403

IDEMPOTENCY_CACHE = "redis"
IDEMPOTENCY_CACHE_INFLIGHT = os.environ.get("IDEMPOTENCY_TEST_INFLIGHT") == "1"
# Short, so that a few seconds have several failures to count.
IDEMPOTENCY_CACHE_RETRY = timedelta(seconds=1)
# Otherwise the INSERT every ten seconds would count among the statements of a request.
IDEMPOTENCY_STATISTICS = False
SECRET_KEY, *SECRET_KEY_FALLBACKS = os.environ.get(
    "IDEMPOTENCY_TEST_SECRETS", suite.SECRET_KEY
).split(",")

if "IDEMPOTENCY_TEST_WAITS" in os.environ:
    MIDDLEWARE = ["tests.redis.waits.noting", *suite.MIDDLEWARE]
