"""Redis cannot be told that a record has expired: the person who expired it learns that."""

import os
import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command
from pytest_django import Settings

from django_idempotency.maintenance.cleanup import NotInvalidatedError, erase
from django_idempotency.maintenance.records import delete, expire
from django_idempotency.models import IdempotencyRecord
from django_idempotency.replay_cache import replays as replay_cache
from django_idempotency.storage.upkeep import Upkeep
from tests.app import effects
from tests.concurrency.owners import Reply, send
from tests.support.servers import REDIS_VARIABLE, Valkey
from tests.unit.admin import act, client_of, told
from tests.unit.replay_cache.test_replays import seconds_later

from .conftest import use
from .test_fence import lost

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOOR = "/function/"
MAX_AGE = timedelta(seconds=30)


@pytest.fixture(params=["frozen", "crashed"])
def loss(request: pytest.FixtureRequest) -> str:
    """The way in which Redis fails."""
    return str(request.param)


@pytest.fixture
def first(valkey: Valkey, settings: Settings, key: str) -> Reply:
    """A reply that is in the cache."""
    valkey.ask("FLUSHALL")
    use(settings, valkey.url)
    settings.IDEMPOTENCY_CACHE_MAX_AGE = MAX_AGE
    reply = send(DOOR, key)
    assert send(DOOR, key).content == reply.content
    return reply


def test_expiry_says_so(valkey: Valkey, loss: str, first: Reply) -> None:
    """The record has expired in the database all the same."""
    record = IdempotencyRecord.objects.get()
    with lost(valkey, loss):
        done = expire(Upkeep("default"), [record.pk])
    assert done.ids == [record.pk]
    assert not done.is_invalidated


def test_admin_says_so(valkey: Valkey, loss: str, first: Reply, key: str) -> None:
    """The retry runs anew as long as Redis is down."""
    clerk = client_of("view_idempotencyrecord", "expire")
    with lost(valkey, loss):
        page = act(clerk, "expire", IdempotencyRecord.objects.get())
        assert "1 key expired." in told(page)
        assert any("replay cache may answer for a while" in message for message in told(page))
        assert send(DOOR, key).content != first.content
    assert effects.count() == 2


@pytest.mark.parametrize("forget", [False, True], ids=["wiped", "forgotten"])
def test_erasure_says_so(valkey: Valkey, loss: str, first: Reply, forget: bool) -> None:
    """The record is erased in the database all the same."""
    with lost(valkey, loss), pytest.raises(NotInvalidatedError) as raised:
        erase(Upkeep("default"), "anonymous", forget=forget)
    assert raised.value.erased == 1
    assert IdempotencyRecord.objects.filter(response_body__isnull=False).count() == 0


def test_command_says_so(valkey: Valkey, loss: str, first: Reply) -> None:
    """The message names the time after which no old reply can be replayed."""
    with lost(valkey, loss), pytest.raises(CommandError, match="for 0:00:30 at most") as raised:
        call_command("idempotency_erase", scope="anonymous")
    assert raised.value.returncode == 4


def test_command_has_an_exit_status_of_its_own(
    valkey: Valkey, loss: str, first: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is 4, and 0 when Redis is back."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", f"{__package__}.settings")
    monkeypatch.setenv(REDIS_VARIABLE, valkey.url)
    command = [sys.executable, "-m", "django", "idempotency_erase", "--scope", "anonymous"]
    with lost(valkey, loss):
        failed = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert failed.returncode == 4
    assert "the replay cache has not confirmed it" in failed.stderr
    assert subprocess.run(command, capture_output=True, env=os.environ).returncode == 0


def test_deletion_does_not_fail(valkey: Valkey, loss: str, first: Reply) -> None:
    """A record that may be deleted has expired, and has no entry that counts."""
    record = IdempotencyRecord.objects.get()
    expire(Upkeep("default"), [record.pk])
    with lost(valkey, loss):
        assert delete(Upkeep("default"), [record.pk]) == [record.pk]


def test_lost_invalidation_costs_the_life_of_an_entry(
    valkey: Valkey, first: Reply, key: str
) -> None:
    """A Redis that was cut off comes back with the old reply, which counts for MAX_AGE at most.

    (One that was frozen executes the command late; this one never got it.)
    """
    record = IdempotencyRecord.objects.get()
    names = replay_cache._names("default", record.pk)[:2]
    client = caches["redis"].client
    raw, keys = client.get_client(write=True), [client.make_key(name) for name in names]
    kept = {name: raw.get(name) for name in keys}
    assert expire(Upkeep("default"), [record.pk]).is_invalidated
    raw.mset(kept)
    assert send(DOOR, key).content == first.content
    with seconds_later(MAX_AGE.total_seconds()):
        assert send(DOOR, key).content != first.content


def test_frozen_redis_hears_of_the_expiry_when_it_thaws(
    valkey: Valkey, first: Reply, key: str
) -> None:
    """The command had been sent before it timed out, and is executed late."""
    with lost(valkey, "frozen"):
        assert not expire(Upkeep("default"), [IdempotencyRecord.objects.get().pk]).is_invalidated
    replay_cache._breaker.cache_clear()
    assert send(DOOR, key).get("Idempotent-Replayed") is None
    assert send(DOOR, uuid.uuid4().hex).status_code == 201
