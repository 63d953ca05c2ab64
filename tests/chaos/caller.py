"""One request and what came of it: sent over a connection of its own, and written down.

A client may give up early, leave without reading, or stop in the middle of the body.
"""

import hashlib
import json
import time
import uuid
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse

from .history import Diary, Exchange

_NETWORK = (OSError, HTTPException)


@dataclass(frozen=True, slots=True)
class Errand:
    """One operation, and what is sent for it."""

    caller: str
    key: str
    path: str
    payload: str

    def mistaken(self) -> "Errand":
        """Another request with the same key."""
        return replace(self, payload=json.dumps(json.loads(self.payload) | {"errand": "another"}))


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request is sent: seconds of patience, and where the client or the worker stops."""

    patience: float = 10.0
    #: Send half of the body only.
    half: bool = False
    #: Seconds after which the client leaves without reading; None: it reads.
    leaves_after: float | None = None
    #: ``POINT;SECONDS;ADDRESS``, see :mod:`.site`.
    linger: str = ""


class Caller:
    """Sends requests to the site and writes down what came of each."""

    def __init__(self, port: int, diary: Diary) -> None:
        self._port = port
        self._diary = diary

    def send(self, errand: Errand, manner: Manner = Manner()) -> Exchange:
        """The request and its answer; never raises for a broken network."""
        payload = errand.payload[: len(errand.payload) // 2] if manner.half else errand.payload
        exchange = Exchange(
            uuid.uuid4().hex, errand.caller, errand.key, errand.path, payload,
            began=time.monotonic(), ended=0.0,
        )  # fmt: skip
        connection = HTTPConnection("127.0.0.1", self._port, timeout=manner.patience)
        try:
            exchange = self._answered(connection, exchange, manner)
        except _NETWORK:
            pass
        finally:
            connection.close()
        exchange = replace(exchange, ended=time.monotonic())
        self._diary.add(exchange)
        return exchange

    def _answered(self, connection: HTTPConnection, exchange: Exchange, manner: Manner) -> Exchange:
        self._request(connection, exchange, manner)
        if manner.leaves_after is not None:
            time.sleep(manner.leaves_after)
            return replace(exchange, left=True)
        response = connection.getresponse()
        return _understood(exchange, response, response.read())

    def _request(self, connection: HTTPConnection, exchange: Exchange, manner: Manner) -> None:
        body = exchange.payload.encode()
        announced = len(body) * (2 if manner.half else 1)
        connection.putrequest("POST", exchange.path, skip_accept_encoding=True)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(announced))
        connection.putheader("Idempotency-Key", exchange.key)
        connection.putheader("Chaos-Request", exchange.request)
        if exchange.caller:
            connection.putheader("Authorization", exchange.caller)
        if manner.linger:
            connection.putheader("Chaos-Linger", manner.linger)
        connection.endheaders(body)


def _understood(exchange: Exchange, response: HTTPResponse, body: bytes) -> Exchange:
    parts = (str(response.status).encode(), response.headers.get("Location", "").encode(), body)
    try:
        told = json.loads(body)
    except ValueError:
        told = {}
    return replace(
        exchange,
        status=response.status,
        marked=response.headers.get("Idempotent-Replayed") == "true",
        digest=hashlib.sha256(b"\0".join(parts)).hexdigest()[:16],
        nonce=told.get("nonce", ""),
        code=told.get("code", ""),
    )
