"""The test project, with what the benchmarks vary."""

import os
from datetime import timedelta

from tests.settings import *  # noqa: F403

IDEMPOTENCY_WAIT = timedelta(seconds=float(os.environ.get("BENCHMARK_WAIT_SECONDS", "0")))
