"""A person expires a key in the admin: from then on no request gets its old reply."""

import itertools
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connections

from django_idempotency.http.keys import record_id
from django_idempotency.maintenance.records import expire
from django_idempotency.models import IdempotencyRecord
from django_idempotency.replay_cache import entries
from django_idempotency.replay_cache.replays import Replays, Slot, _names
from django_idempotency.storage.upkeep import Upkeep
from django_idempotency.storage.values import Intent, StoredResponse
from tests.app import effects
from tests.concurrency.owners import send
from tests.conftest import Post
from tests.unit.admin import act, client_of, told

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("cached"),
]

DOOR = "/function/"
#: A thousand of them take a minute.
RACES = int(os.environ.get("IDEMPOTENCY_TEST_RACES", "250"))
REPLAYERS = 3
#: The longest pause between a look into the database and the fill, in seconds; often there is none.
DAWDLE = 0.004


def test_key_expired_in_the_admin_runs_anew(post: Post, key: str) -> None:
    """After the button was pressed, the retry runs, and its own reply is replayed."""
    first = post(DOOR, key)
    assert post(DOOR, key).content == first.content
    clerk = client_of("view_idempotencyrecord", "expire")
    assert told(act(clerk, "expire", IdempotencyRecord.objects.get())) == ["1 key expired."]
    again = post(DOOR, key)
    assert again.get("Idempotent-Replayed") is None
    assert again.content != first.content
    assert post(DOOR, key).content == again.content
    assert effects.count() == 2


@dataclass(frozen=True, slots=True)
class Told:
    """A reply: when it was asked for, and what it was."""

    asked_at: float
    replayed: bool
    content: bytes


class Race:
    """Threads that replay a key while another expires it, on connections that stay open."""

    def __init__(self) -> None:
        self._start = threading.Barrier(REPLAYERS + 2)
        self._end = threading.Barrier(REPLAYERS + 2)
        self._key = ""
        self._told: list[Told] = []
        self._expired_at = 0.0
        self._is_over = False

    def _each_round(self, work: Any) -> None:
        try:
            while True:
                self._start.wait(60)
                if self._is_over:
                    return
                work()
                self._end.wait(60)
        finally:
            connections.close_all()

    def _replay(self) -> None:
        for _ in range(3):
            asked_at = time.monotonic()
            reply = send(DOOR, self._key)
            if reply.status_code == 201:
                is_replay = reply.get("Idempotent-Replayed") == "true"
                self._told.append(Told(asked_at, is_replay, reply.content))

    def _expire(self) -> None:
        time.sleep(random.uniform(0, 0.01))
        record = record_id("anonymous", self._key)
        done = expire(Upkeep("default"), [record])
        assert done.ids == [record]
        assert done.is_invalidated
        self._expired_at = time.monotonic()

    def stale(self, key: str, redis: Any) -> int:
        """How many requests got the old reply of this key after its expiry had returned."""
        first = send(DOOR, key)
        # So the first replay reads the database and fills the cache.
        redis.flushdb()
        self._key, self._told = key, []
        self._start.wait(60)
        self._end.wait(60)
        last = Told(time.monotonic(), *_summary(send(DOOR, key)))
        return sum(
            told.content == first.content and told.asked_at > self._expired_at
            for told in [*self._told, last]
        )

    def run(self, redis: Any, rounds: int) -> Iterator[int]:
        """The number of stale replies of each round."""
        with ThreadPoolExecutor(REPLAYERS + 1) as pool:
            works = [self._replay] * REPLAYERS + [self._expire]
            running = [pool.submit(self._each_round, work) for work in works]
            try:
                for _ in range(rounds):
                    yield self.stale(uuid.uuid4().hex, redis)
            finally:
                self._is_over = True
                self._start.wait(60)
            for each in running:
                each.result()


def _summary(reply: Any) -> tuple[bool, bytes]:
    return reply.get("Idempotent-Replayed") == "true", reply.content


@pytest.fixture
def dawdling(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Some fills are late; the list has one entry for each fill."""
    fill = Slot.fill
    fills: list[bool] = []

    def late(self: Slot, response: StoredResponse, seconds: float) -> None:
        fills.append(True)
        time.sleep(max(0.0, random.uniform(-DAWDLE, DAWDLE)))
        fill(self, response, seconds)

    monkeypatch.setattr(Slot, "fill", late)
    return fills


@pytest.mark.timeout(600)
def test_expiry_that_has_returned_is_the_last_word(redis: Any, dawdling: list[bool]) -> None:
    """No race of an expiry with fills and replays leaves an old reply."""
    stale = list(Race().run(redis, RACES))
    print(f"\n{len(stale)} expiries against {len(dawdling)} fills: {sum(stale)} stale replies")
    assert len(stale) == RACES
    assert sum(stale) == 0
    assert len(dawdling) > 2 * RACES


def _unmarked(self: Replays, intent: Intent, marker: Any, entry: Any) -> StoredResponse | None:
    """The response in an entry, whatever its marker."""
    content = entries.unseal(_names(self.using, intent.id)[1], entry) if entry else None
    return entries.unpacked_entry(content, content[:16], intent) if content else None


@pytest.mark.timeout(600)
def test_race_notices_what_the_marker_is_for(redis: Any, dawdling: list[bool]) -> None:
    """Without the marker the same races do leave old replies."""
    race = Race()
    with patch.object(Replays, "_response", _unmarked):
        rounds = race.run(redis, RACES)
        stale = list(itertools.islice(rounds, 50))
        while not sum(stale):
            stale.append(next(rounds))
        rounds.close()
    print(f"\nwithout the marker: {sum(stale)} stale replies in {len(stale)} races")
