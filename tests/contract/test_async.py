"""Coroutines have no transaction, so their writes stay; and some clients hang up."""

import http.client
import socket
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import ASYNC
from tests.conftest import Post, atomic_requests_on
from tests.support.live import uvicorn
from tests.support.patience import until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

#: For each act: the response's status and the record's.
TABLE = {
    "order": (201, Status.COMPLETED),
    "payment_required": (402, Status.COMPLETED),
    "unauthorized": (401, Status.RELEASED),
    "other_form": (200, Status.COMPLETED),
    "unavailable": (503, Status.RELEASED),
    "crash": (500, Status.RELEASED),
    "none": (500, Status.RELEASED),
    "stream": (500, Status.RELEASED),
    "releases": (201, Status.RELEASED),
    "keeps": (503, Status.COMPLETED),
}
MOMENTS = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]


@pytest.mark.parametrize("door", ASYNC)
@pytest.mark.parametrize("act", TABLE)
def test_answer_decides_about_the_key(
    act: str, door: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """The key is kept or freed at once, and the view commits by itself."""
    status, kept = TABLE[act]
    assert post(door, key, act=act).status_code == status
    assert Order.objects.count() == effects.count() == 1
    assert IdempotencyRecord.objects.get().status == kept


@pytest.mark.parametrize("door", ["/async-slow/", "/async-hangs-once/"])
def test_atomic_requests_is_refused_as_django_does(door: str, key: str, post: Post) -> None:
    """A coroutine cannot run in a transaction, so nothing runs."""
    with atomic_requests_on("default"):
        assert post(door, key).status_code == 500
    assert effects.count() == 0


@pytest.mark.parametrize("door", ASYNC)
def test_async_client_gets_the_first_reply_again(door: str, key: str) -> None:
    """This client runs the view in its own event loop, without a thread for each request."""

    async def twice() -> list[bytes]:
        client = AsyncClient()
        replies = [await client.post(door, headers={"Idempotency-Key": key}) for _ in range(2)]
        return [reply.content for reply in replies]

    first, second = async_to_sync(twice)()
    assert effects.count() == 1
    assert first == second


def claimed() -> None:
    """Return when a request has been claimed."""
    until(IdempotencyRecord.objects.exists, "no claim was made")


#: One site, on whichever port its server listens.
HOST = "testserver"


def hang_up(address: str, path: str, key: str, wait: Callable[[], None]) -> None:
    """Send a whole request, and close the connection after a wait."""
    url = urlsplit(address)
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n"
    with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
        connection.sendall(f"{head}Idempotency-Key: {key}\r\n\r\n".encode())
        wait()


def post_again(address: str, path: str, key: str) -> httpx.Response:
    """Retry while the first request is running, as clients do."""

    def answered() -> httpx.Response | None:
        headers = {"Host": HOST, "Idempotency-Key": key}
        reply = httpx.post(f"{address}{path}", headers=headers, timeout=20)
        return None if reply.status_code == http.client.CONFLICT else reply

    return until(answered, "the key is stuck")


@pytest.mark.parametrize("path", ["/async-slow/", "/exempt/?act=slow"], ids=["async", "sync"])
def test_client_that_hangs_up_finds_the_reply_later(path: str, tmp_path: Path) -> None:
    """Clients hang up before, in and after the effect; each finds one effect and its reply."""
    keys = [uuid.uuid4().hex for _ in MOMENTS]
    with uvicorn(tmp_path) as address:
        for key, moment in zip(keys, MOMENTS, strict=True):
            hang_up(address, path, key, partial(time.sleep, moment))
        replies = [post_again(address, path, key) for key in keys]
    assert effects.count() == Order.objects.count() == len(keys)
    assert [reply.status_code for reply in replies] == [201] * len(keys)
    assert len({reply.content for reply in replies}) == len(keys)
    assert all(record.status == Status.COMPLETED for record in IdempotencyRecord.objects.all())


@pytest.mark.slow
def test_dead_server_frees_the_key_with_its_lease(tmp_path: Path, key: str) -> None:
    """No row lock vouches for a coroutine, so a retry gets 409 until the lease is over."""
    with uvicorn(tmp_path) as address:
        hang_up(address, "/async-hangs-once/", key, claimed)
    with uvicorn(tmp_path) as address:
        reply = post_again(address, "/async-hangs-once/", key)
    assert reply.status_code == 201
    assert effects.count() == 1
    assert IdempotencyRecord.objects.get().attempts == 2
