"""SQLite's modes of transactions and journals: no request is refused in any of them."""

import multiprocessing
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.db import connection, connections, transaction

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.concurrency.owners import in_thread
from tests.settings import SQLITE

from .connecting import asked, connected
from .crowd import ask, together, together_at, until_answered

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.faults.urls"),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has these modes"),
]

PATH = "/look-then-write/"
MODES = list(SQLITE.values())
CROWD = 16


@pytest.fixture(autouse=True, params=MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """How new connections begin transactions, and which journal the file has."""
    begin, journal = request.param
    command = f"PRAGMA journal_mode={journal}"
    with connected(options={"transaction_mode": begin, "init_command": command}):
        assert asked("default", "PRAGMA journal_mode") == journal.lower()
        assert getattr(connection, "transaction_mode", None) == begin
        yield


def fresh_keys(number: int) -> list[str]:
    """Keys that are not used yet."""
    return [uuid.uuid4().hex for _ in range(number)]


def with_bare_requests(keys: list[str]) -> dict[str, str]:
    """A covered request for each key, and half as many uncovered ones beside them."""
    bare = dict.fromkeys(fresh_keys(len(keys) // 2), "/write/")
    return dict.fromkeys(keys, PATH) | bare


def statuses_beside_others(keys: list[str]) -> set[int]:
    """The statuses for these keys, and those of the uncovered requests beside them."""
    return {reply.status_code for reply in together_at(with_bare_requests(keys)).values()}


def test_threads_with_unrelated_keys_all_succeed() -> None:
    """Each view reads before it writes, and none fails because the database is locked."""
    seen = statuses_beside_others(fresh_keys(CROWD))
    assert Order.objects.count() == effects.count() + CROWD // 2 == CROWD * 3 // 2
    assert seen == {201}


def test_processes_with_unrelated_keys_all_succeed() -> None:
    """Four processes have four threads each."""
    connections.close_all()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        seen = set().union(*pool.map(statuses_beside_others, [fresh_keys(4) for _ in range(4)]))
    assert Order.objects.count() == effects.count() + CROWD // 2 == CROWD * 3 // 2
    assert seen == {201}


def test_racers_have_one_effect_for_each_key() -> None:
    """Four requests for each of four keys run beside each other."""
    keys = fresh_keys(4)
    replies = together(PATH, keys * 4)
    for key in keys:
        until_answered(PATH, key)
    assert Order.objects.count() == effects.count() == 4
    assert {reply.status_code for reply in replies} <= {201, 409}
    assert IdempotencyRecord.objects.filter(status=Status.COMPLETED).count() == 4


def test_failed_attempts_in_a_crowd_free_their_keys() -> None:
    """The late release needs the one write lock, too."""
    keys = fresh_keys(CROWD)
    replies = together("/function/?act=crash", keys)
    assert not Order.objects.exists()
    assert {reply.status_code for reply in replies} == {500}
    for key in keys:
        assert until_answered("/function/?act=crash", key, status=500)
    assert effects.count() == 2 * CROWD


class Writer:
    """Holds the write lock, in a thread with a connection of its own."""

    def __init__(self) -> None:
        self.holds, self.may_go = Event(), Event()

    def write(self) -> None:
        """Hold the lock until the test releases it."""
        with transaction.atomic():
            Order.objects.create(nonce="long")
            self.holds.set()
            self.may_go.wait(20)


@pytest.fixture
def writer() -> Iterator[Writer]:
    """A long transaction that belongs to no key."""
    writer = Writer()
    with ThreadPoolExecutor(1) as pool:
        done = in_thread(pool, writer.write)
        try:
            assert writer.holds.wait(20)
            yield writer
        finally:
            writer.may_go.set()
            done.result()


def test_request_waits_for_a_writer_of_something_else(writer: Writer, key: str) -> None:
    """It waits for up to the busy time-out, like every other writer."""
    with ThreadPoolExecutor(1) as pool:
        reply = in_thread(pool, lambda: ask(PATH, key))
        assert not reply.done()
        writer.may_go.set()
        assert reply.result().status_code == 201
    assert effects.count() == 1


@pytest.mark.parametrize("path", [PATH, "/plainly/"])
def test_writer_beyond_the_time_out_makes_the_store_unavailable(
    path: str, writer: Writer, key: str
) -> None:
    """It gets 503 and Retry-After, and no view runs; it gets no 409, as the key is not in use."""
    with connected(options={"timeout": 0.2}):
        reply = ask(path, key)
    assert effects.count() == 0
    assert reply.status_code == 503
    assert reply["Retry-After"] == "1"
    writer.may_go.set()
    assert until_answered(path, key).status_code == 201
    assert effects.count() == 1
