"""The partners are down for a while, and no customer comes back: the completer finishes all."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord, IdempotencyStep, Status
from testproject.provider.server import Provider

from . import books
from .customers import Crowd
from .finishing import seconds_until_all_is_finished
from .site import open_site

pytestmark = pytest.mark.django_db(transaction=True)

ORDERS = 24
_CUSTOMERS = 8
_OUTAGE_SECONDS = 3.0


@contextmanager
def outage(provider: Provider) -> Iterator[None]:
    """The partners die in the middle of what they do, and come back at the end of the block."""
    provider.kill()
    try:
        yield
    finally:
        provider.start()


def standing_at() -> dict[str, int]:
    """How many operations have recorded each of their steps."""
    names = ("order", "charge", "courier", "paid", "receipt")
    done = IdempotencyStep.objects.filter(completed_at__isnull=False)
    return {name: done.filter(name=name).count() for name in names}


def send_all(crowd: Crowd) -> None:
    """Each customer sends her order once."""
    with ThreadPoolExecutor(_CUSTOMERS) as pool:
        list(pool.map(crowd.send, [crowd.new_key(gone=True) for _ in range(ORDERS)]))


def test_outage_is_over_for_everybody_soon_after_it_ends(
    provider: Provider, token: str, tmp_path: Path
) -> None:
    """One of everything, for every order, without its customer."""
    with open_site(tmp_path, provider, completers=1) as site, ThreadPoolExecutor(1) as pool:
        crowd = Crowd(site.address, token)
        sending = pool.submit(send_all, crowd)
        while len(provider.ledger("charges")) < _CUSTOMERS and not sending.done():
            time.sleep(0.05)
        with outage(provider):
            down = time.monotonic()
            sending.result()
            time.sleep(max(0.0, down + _OUTAGE_SECONDS - time.monotonic()))
            left, steps = ORDERS - completed_until(datetime.now(UTC)), standing_at()
        back, lasted = datetime.now(UTC), time.monotonic() - down
        seconds_until_all_is_finished()
    ends = IdempotencyRecord.objects.values_list("completed_at", flat=True)
    late = sorted((at - back).total_seconds() for at in ends if at and at > back) or [0.0]
    print(
        f"\n{connection.display_name}: down for {lasted:.1f} s with {left} of {ORDERS} orders"
        f" unfinished, {steps}; finished {late[0]:.1f} s, {late[len(late) // 2]:.1f} s (median) and"
        f" {late[-1]:.1f} s (last) after the return"
    )
    assert left > 0
    books.check_delivered(provider, orders=ORDERS)


def completed_until(moment: datetime) -> int:
    """How many orders were finished by then."""
    done = IdempotencyRecord.objects.filter(status=Status.COMPLETED, completed_at__lte=moment)
    return done.count()
