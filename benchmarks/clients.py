"""Clients that send orders by HTTP, each over a connection of its own; ``wrk`` is for crowds."""

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from urllib.parse import urlsplit

from benchmarks.sites.orders.request import BODY, HEADER

CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got, and after how many seconds."""

    status: int
    seconds: float
    is_replay: bool


class Client:
    """One client; its first request opens the connection."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=300)

    def post(self, path: str, key: str = "") -> Reply:
        """Send an order, with a key or without."""
        headers = {"Content-Type": "application/json"} | ({HEADER: key} if key else {})
        began = time.perf_counter()
        self._connection.request("POST", path, body=BODY, headers=headers)
        response = self._connection.getresponse()
        response.read()
        seconds = time.perf_counter() - began
        is_replay = response.headers.get("Idempotent-Replayed") == "true"
        return Reply(response.status, seconds, is_replay)


@dataclass
class SteadyOrders:
    """Orders with fresh keys, ``rate`` a second; each is sent when it is due."""

    url: str
    rate: int
    #: From when an order was due: a server that stands still must not lower the rate.
    seconds: list[float] = field(default_factory=list)
    lost: int = 0

    def send_for(self, seconds: float) -> "SteadyOrders":
        """Send for so long."""
        with self.sent_meanwhile():
            time.sleep(seconds)
        return self

    @contextmanager
    def sent_meanwhile(self) -> Iterator[None]:
        """Send until the block ends."""
        ended, began = threading.Event(), time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            for first in range(CLIENTS):
                pool.submit(self._send, began + first / self.rate, ended)
            try:
                yield
            finally:
                ended.set()

    def _send(self, due: float, ended: threading.Event) -> None:
        client = Client(self.url)
        while not ended.is_set():
            time.sleep(max(0.0, due - time.perf_counter()))
            self.lost += not self._is_placed(client)
            self.seconds.append(time.perf_counter() - due)
            due += CLIENTS / self.rate

    def _is_placed(self, client: Client) -> bool:
        try:
            return client.post("/plain/order/", uuid.uuid4().hex).status == 201
        except OSError:
            return False
