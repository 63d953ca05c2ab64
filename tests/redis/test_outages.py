"""Redis hangs, dies, or is replaced: a request waits for it once at most, and no reply is wrong."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from pytest_django import Settings

from django_idempotency.replay_cache import replays as replay_cache
from django_idempotency.replay_cache.replays import Replays, Slot
from django_idempotency.replay_cache.transport import RedisTransport
from django_idempotency.storage.values import Intent
from tests.app import effects
from tests.app.models import Order
from tests.support.live import gunicorn
from tests.support.patience import HANG_SECONDS
from tests.support.servers import REDIS_VARIABLE, ServerUnavailableError, Valkey

from . import TIMEOUT_SECONDS
from .conftest import use
from .groups import GROUPS, Group
from .waits import VARIABLE, Wait, failures, too_soon, waits

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

WORKERS, THREADS, CALLERS = 2, 4, 4
#: IDEMPOTENCY_CACHE_RETRY of the tests' processes.
INTERVAL = 1.0
OUTAGE_SECONDS = 4.0
#: After so many requests every worker has imported everything.
WARM = 200


@pytest.fixture(scope="module", params=GROUPS)
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    """One server, a service with sentinels, a cluster."""
    try:
        with GROUPS[request.param]() as running:
            yield running
    except ServerUnavailableError as error:
        pytest.skip(f"Valkey cannot be had: {error}")


def freeze(group: Group, undo: ExitStack) -> Valkey:
    """SIGSTOP: the server accepts connections, and answers nothing."""
    lost = group.first()
    undo.enter_context(lost.frozen())
    return lost


def crash(group: Group, undo: ExitStack) -> Valkey:
    """SIGKILL: the server refuses connections."""
    lost = group.first()
    lost.crash()
    undo.callback(lost.start)
    return lost


class Callers:
    """Threads that order and repeat on connections of their own, until they are stopped."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._is_over = threading.Event()
        self.seconds: list[float] = []
        self.keys: set[str] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        """Send an order, and repeat it twice."""
        caller = HTTPConnection(urlsplit(self._address).netloc, timeout=30)
        while not self._is_over.is_set():
            key = uuid.uuid4().hex
            self.keys.add(key)
            replies = [self._ask(caller, key) for _ in range(3)]
            if len(set(replies)) > 1 or replies[0][0] != 201:
                self.wrong.append(f"{key}: {replies}")
        caller.close()

    def _ask(self, caller: HTTPConnection, key: str) -> tuple[int, bytes]:
        began = time.monotonic()
        caller.request("POST", "/exempt/", b"{}", {"Idempotency-Key": key})
        response = caller.getresponse()
        body = response.read()
        self.seconds.append(time.monotonic() - began)
        return response.status, body

    def warm_up(self) -> None:
        """Return when every worker has served requests."""
        deadline = time.monotonic() + 60
        while len(self.seconds) < WARM:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.seconds.clear()
        time.sleep(1)

    def stop(self) -> None:
        """Each thread finishes its request and ends."""
        self._is_over.set()


def median(seconds: list[float]) -> str:
    """The median and the longest, in milliseconds, as text."""
    ordered = sorted(seconds)
    return f"p50 {ordered[len(ordered) // 2] * 1000:.0f} ms, max {ordered[-1] * 1000:.0f} ms"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("outage", [freeze, crash])
def test_request_waits_once_at_most(
    outage: Callable[[Group, ExitStack], Valkey],
    group: Group,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each process has one time-out in an interval, beside those of requests under way."""
    noted = tmp_path / "waits.jsonl"
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", f"{__package__}.settings")
    monkeypatch.setenv(REDIS_VARIABLE, group.url)
    monkeypatch.setenv(VARIABLE, str(noted))
    with (
        gunicorn(tmp_path, workers=WORKERS, threads=THREADS) as address,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        callers = Callers(address)
        running = [pool.submit(callers.run) for _ in range(CALLERS)]
        callers.warm_up()
        before, began = len(callers.seconds), time.monotonic()
        with ExitStack() as undo:
            lost = outage(group, undo)
            time.sleep(OUTAGE_SECONDS)
            group.recover(lost)
            ended, during = time.monotonic(), len(callers.seconds)
        # One more call may have failed just before that.
        time.sleep(2 * INTERVAL + TIMEOUT_SECONDS)
        calm = time.monotonic()
        time.sleep(1)
        callers.stop()
        for each in running:
            each.result()
    told = waits(noted)
    lost_time = [wait for wait in told if wait.failed]
    print(
        f"\n{type(group).__name__}, {outage.__name__} for {ended - began:.1f} s:"
        f" {during - before} requests {median(callers.seconds[before:during])},"
        f" before {median(callers.seconds[:before])}; {len(lost_time)} waits in vain,"
        f" {median([wait.seconds for wait in lost_time])}"
    )
    assert callers.wrong == []
    assert Order.objects.count() == effects.count() == len(callers.keys)
    assert lost_time
    assert set(failures(told).values()) == {1}
    # A time-out, or some in a row, and all that a thread may wait for the processor.
    assert max(wait.seconds for wait in told) < HANG_SECONDS
    assert list(too_soon(told, INTERVAL)) == []
    _assert_few(lost_time, began, ended)
    assert not [wait for wait in lost_time if wait.began > calm]
    assert [wait for wait in told if wait.began > calm]


def _assert_few(lost_time: list[Wait], began: float, ended: float) -> None:
    """As many as the outage has intervals, and the requests under way at its start and end."""
    for process, count in Counter(wait.process for wait in lost_time).items():
        under_way = sum(
            wait.process == process and wait.began < began + TIMEOUT_SECONDS for wait in lost_time
        )
        assert under_way <= THREADS
        assert count <= under_way + 2 + (ended - began) / INTERVAL


def test_service_that_hangs_as_a_whole_costs_one_request_more(
    group: Group, settings: Settings
) -> None:
    """One request waits in each interval and process; the next one does not wait."""
    use(settings, group.url)
    assert look().marker is not None
    took = []
    with ExitStack() as undo:
        for server in group.servers:
            undo.enter_context(server.frozen())
        for _ in range(3):
            # redis-py asks each sentinel for the master, and each node of a cluster for the layout:
            # up to 3 and 7 time-outs in a row.
            replay_cache._breaker.cache_clear()
            began = time.monotonic()
            assert look().marker is None
            took.append(time.monotonic() - began)
        with patch.object(RedisTransport, "look") as asked:
            assert look().marker is None
        assert not asked.called
    print(f"\n{type(group).__name__}: {', '.join(f'{seconds:.2f} s' for seconds in took)}")
    assert max(took) < HANG_SECONDS


def look() -> Slot:
    """What the cache has for some request."""
    intent = Intent(uuid.uuid4(), "anonymous", "key", b"f" * 32, "POST", "/")
    return Replays("redis", "default").look(intent)
