"""The test project with the site of benchmarks.replays, whose replays are cached or not."""

import os

from benchmarks.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.replay_site"
IDEMPOTENCY_CACHE = "redis" if os.environ.get("BENCHMARK_CACHE") == "1" else ""
