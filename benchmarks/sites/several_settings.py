"""The site's settings with several databases of one server; ``BENCHMARK_ALIASES`` names them."""

import os

from benchmarks.sites.databases import database
from benchmarks.sites.router import Chosen
from benchmarks.sites.settings import *  # noqa: F403

# Django wants one that is called "default".
DATABASES = {
    alias: database(alias, {}) for alias in ("default", *os.environ["BENCHMARK_ALIASES"].split())
}
DATABASE_ROUTERS = [Chosen()]
