"""Large bodies are hashed as they arrive, and never held in memory."""

import http.client
import itertools
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.app import effects
from tests.support.live import gunicorn

MEGABYTE = 1024 * 1024
CHUNKS = 100
LIMIT = 16 * MEGABYTE

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


def multipart(boundary: str, filling: bytes) -> tuple[bytes, bytes]:
    """The bytes before and after a file's content."""
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; name=cake\r\n\r\nlemon\r\n"
        f"--{boundary}\r\nContent-Disposition: form-data; name=photo; filename=a.jpg\r\n\r\n"
    )
    return head.encode() + filling, f"\r\n--{boundary}--\r\n".encode()


def upload(
    address: str, key: str, content_type: str, head: bytes = b"", tail: bytes = b""
) -> tuple[int, bytes]:
    """Send 100 MB piece by piece; returns status and body of the reply."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    pieces = itertools.chain([head], itertools.repeat(b"x" * MEGABYTE, CHUNKS), [tail])
    headers = {
        "Content-Type": content_type,
        "Content-Length": str(len(head) + CHUNKS * MEGABYTE + len(tail)),
        "Idempotency-Key": key,
    }
    connection.request("POST", "/exempt/", pieces, headers)
    reply = connection.getresponse()
    return reply.status, reply.read()


def peak_of_workers(folder: Path) -> int:
    """The most memory that any of the server's workers ever used, in bytes."""
    pids = re.findall(r"Booting worker with pid: (\d+)", (folder / "gunicorn.log").read_text())
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(found) for text in texts for found in re.findall(r"VmHWM:\s+(\d+)", text)) * 1024


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A warmed-up server with one process and one thread, as each thread has its own arena."""
    with gunicorn(tmp_path, workers=1, threads=1) as found:
        connection = http.client.HTTPConnection(urlsplit(found).netloc, timeout=20)
        connection.request("POST", "/exempt/", b"a=1", {"Idempotency-Key": uuid.uuid4().hex})
        assert connection.getresponse().status == 201
        yield found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_large_uploads_are_compared_without_being_held(
    address: str, key: str, tmp_path: Path
) -> None:
    """Another boundary makes the same request, other content does not; raw bytes likewise."""
    before = peak_of_workers(tmp_path)
    replies = []
    for boundary, filling in (("one", b"jpg"), ("two", b"jpg"), ("one", b"gif")):
        content_type = f"multipart/form-data; boundary={boundary}"
        replies.append(upload(address, key, content_type, *multipart(boundary, filling)))
    raw = [
        upload(address, key[::-1], "application/octet-stream", head) for head in (b"a", b"a", b"b")
    ]
    growth = peak_of_workers(tmp_path) - before
    print(f"\nsix uploads of {CHUNKS} MB: the worker grew by {growth / MEGABYTE:.1f} MB")
    # Two of these uploads, and the one that warmed the server up.
    assert effects.count() == 3
    for three in (replies, raw):
        assert [status for status, _ in three] == [201, 201, 422]
        assert three[0] == three[1]
    assert growth < LIMIT
