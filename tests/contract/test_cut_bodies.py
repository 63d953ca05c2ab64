"""The connection breaks in the middle of a request, so the server has half a body."""

import socket
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from django_idempotency.models import IdempotencyRecord
from tests.app import effects
from tests.app.urls import served
from tests.support.live import gunicorn

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

JSON = ("application/json", b'{"cake": "lemon", "candles": 12}')
FORM = ("application/x-www-form-urlencoded", b"cake=lemon&candles=12")
FILE = (
    "multipart/form-data; boundary=X",
    b'--X\r\nContent-Disposition: form-data; name="cake"\r\n\r\nlemon\r\n'
    b'--X\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
    + b"x" * 5000
    + b"\r\n--X--\r\n",
)
LARGE = ("application/octet-stream", b"x" * 3_000_000)
BODIES = {"json": JSON, "form": FORM, "file": FILE, "large": LARGE}


def post(address: str, path: str, content_type: str, body: bytes, announced: int) -> int:
    """Send ``body`` with a key, and then nothing more; returns the reply's status."""
    url = urlsplit(address)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {announced}\r\n"
        f"Idempotency-Key: {uuid.uuid4().hex}\r\n\r\n"
    )
    with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        reply = connection.makefile("rb").readline()
    return int(reply.split()[1])


@pytest.mark.slow
def test_half_a_body_neither_runs_nor_claims_its_key(tmp_path: Path) -> None:
    """400 before the claim, for every kind of body and both frameworks; the whole body runs."""
    runs = 0
    with gunicorn(tmp_path, workers=1) as address:
        for path in ("/exempt/", *served("/mixin/")):
            for name, (content_type, body) in BODIES.items():
                half = post(address, path, content_type, body[: len(body) // 2], len(body))
                assert effects.count() == runs, (path, name)
                assert half == 400, (path, name)
                whole = post(address, path, content_type, body, len(body))
                runs += whole == 201
                assert effects.count() == runs
                # REST framework has no parser for bytes.
                assert whole == (415 if (path, name) == ("/mixin/", "large") else 201)
    assert IdempotencyRecord.objects.count() == runs
