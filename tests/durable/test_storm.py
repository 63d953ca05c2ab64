"""Workers and completers are killed at random or freeze, and the partners have their moods.

``python -m tests.durable --kills 500 --seed 7`` takes its time over it.
"""

import time
from collections import Counter
from pathlib import Path

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord, Status
from testproject.provider.server import Provider

from . import books
from .customers import Crowd
from .finishing import seconds_until_all_is_finished
from .site import open_site
from .storm import Storm, kills_wanted, seed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1800)]


#: The answers that customers may get in a storm.
EXPECTED = {
    "no answer",
    "201",
    "409 idempotency_in_progress",
    "409 idempotency_outcome_unknown",
    "503 idempotency_operation_pending",
}


def listed(counter: Counter[str]) -> str:
    """``number what`` for each, the most frequent first."""
    return ", ".join(f"{number} {what}" for what, number in counter.most_common()) or "none"


def summary(storm: Storm, raged: float, finished: float) -> str:
    """What was done, what was answered, and what came of it."""
    crowd, provider = storm.crowd, storm.provider
    done = IdempotencyRecord.objects.filter(status=Status.COMPLETED).count()
    return (
        f"\n{connection.display_name}, seed {seed()}: {len(crowd.keys)} orders in {raged:.0f} s,"
        f" {storm.kills} kills; {listed(storm.struck)}; moods: {listed(storm.moods)}"
        f"\n  answers: {listed(crowd.statuses)}"
        f"\n  {len(crowd.gone)} customers never came back, {len(crowd.keys) - done} orders never"
        f" arrived; the last was finished {finished:.1f} s after the storm"
        f"\n  calls: {listed(Counter(call['service'] for call in provider.calls()))}"
        f"; done: {listed(Counter(entry['service'] for entry in provider.ledger()))}"
    )


def test_storm_leaves_one_of_everything(provider: Provider, token: str, tmp_path: Path) -> None:
    """Each order has one charge, one courier and one receipt; nothing was taken back."""
    began = time.monotonic()
    with open_site(tmp_path, provider, completers=2) as site:
        crowd = Crowd(site.address, token)
        storm = Storm(site, provider, crowd, kills_wanted())
        storm.rage()
        print(summary(storm, time.monotonic() - began, seconds_until_all_is_finished()))
        # Whose order never arrived sends it now; all others get what they got, or would have got.
        for key in crowd.keys:
            crowd.insist(key)
    assert set(crowd.statuses) <= EXPECTED
    for key, replies in crowd.told.items():
        assert len({reply.body for reply in replies if reply.status == 201}) == 1, key
    books.check_delivered(provider, orders=len(crowd.keys))
