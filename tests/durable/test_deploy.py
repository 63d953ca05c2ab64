"""The shop is replaced by its next version while orders are on their way through it."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from django_idempotency.models import IdempotencyStep
from testproject.provider.server import Provider

from . import books
from .customers import Crowd
from .site import open_site

pytestmark = pytest.mark.django_db(transaction=True)

# Half as many as the shop has threads.
ORDERS = 8


def test_second_version_finishes_what_the_first_began(
    provider: Provider, token: str, tmp_path: Path
) -> None:
    """All of the first is killed with the money taken and the courier on the telephone."""
    provider.turn("pickups", "hang", seconds=60)
    with ThreadPoolExecutor(ORDERS) as pool:
        with open_site(tmp_path, provider) as first:
            crowd = Crowd(first.address, token)
            keys = [crowd.new_key(gone=False) for _ in range(ORDERS)]
            cut_off = [pool.submit(crowd.send, key) for key in keys]
            # On a busy machine a charge may take longer than its caller has time for.
            while len(provider.ledger("charges")) < ORDERS and not all(map(Future.done, cut_off)):
                time.sleep(0.05)
            first.kill()
            # Some may have got the refusal that says to come back later.
            assert {sent.result().status for sent in cut_off} <= {0, 503}
        provider.turn("pickups", "well")
        provider.hurry()
        with open_site(tmp_path, provider, version="second") as second:
            crowd.address = second.address
            list(pool.map(crowd.insist, keys))
    provider.hurry()
    assert IdempotencyStep.objects.filter(name="wrap").count() == ORDERS
    books.check_delivered(provider, orders=ORDERS)
