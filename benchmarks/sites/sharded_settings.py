"""The site's settings with several databases: ``BENCHMARK_SHARDS`` has the URL of each as JSON."""

import json
import os
from urllib.parse import urlsplit

from benchmarks.sites.databases import MAX_AGE
from benchmarks.sites.settings import *  # noqa: F403

SHARDS_VARIABLE = "BENCHMARK_SHARDS"


def _shard(alias: str, address: str) -> dict[str, object]:
    url, name = urlsplit(address), f"bench_{alias}"
    place = {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "NAME": name}
    engine = {"ENGINE": "django.db.backends.postgresql", "TEST": {"NAME": name}}
    return engine | place | {"CONN_MAX_AGE": MAX_AGE}


DATABASES = {
    alias: _shard(alias, address)
    for alias, address in json.loads(os.environ[SHARDS_VARIABLE]).items()
}
ROOT_URLCONF = "benchmarks.sites.sharded"
