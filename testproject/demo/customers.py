"""Clients of the shop's API: what they send, what they lose, how they try again."""

import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from threading import Barrier
from typing import Any

import httpx

from .server import Shop
from .tunnel import LostReply, Tunnel
from .waiting import NEVER_SECONDS

# The shop says a second; a demonstration is in more of a hurry.
_LONGEST_PAUSE = 0.5
_ORDERS = "/api/orders/"
_DELIVERIES = "/api/deliveries/"

Reply = httpx.Response


def fresh_key() -> str:
    """A key for a new intent."""
    return str(uuid.uuid4())


def _client(address: str) -> httpx.Client:
    # Nobody retries behind our back, and no proxy of the environment stands in between.
    transport = httpx.HTTPTransport(retries=0)
    return httpx.Client(
        base_url=address,
        # The name of the shop, not of the tunnel: another host would be another request.
        headers={"Host": "localhost"},
        transport=transport,
        timeout=NEVER_SECONDS,
        trust_env=False,
    )


@dataclass(frozen=True)
class Customer:
    """A user of the API with a bearer token."""

    shop: Shop
    token: str

    @classmethod
    def logged_in(cls, shop: Shop, name: str) -> "Customer":
        """The user ``name``, whose password is the same."""
        with _client(shop.address) as client:
            reply = client.post("/api/token/", data={"username": name, "password": name})
        return cls(shop, reply.raise_for_status().json()["token"])

    def _post(
        self, client: httpx.Client, path: str, key: str | None, order: dict[str, Any]
    ) -> Reply:
        headers = {"Authorization": f"Bearer {self.token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return client.post(path, json=order, headers=headers)

    def _send(self, address: str, path: str, key: str | None, order: dict[str, Any]) -> Reply:
        with _client(address) as client:
            return self._post(client, path, key, order)

    def order(self, key: str | None, **order: Any) -> Reply:
        """Send an order once."""
        return self._send(self.shop.address, _ORDERS, key, order)

    def order_from_tunnel(self, key: str | None, **order: Any) -> LostReply:
        """Send an order whose reply gets lost; the reply, which only the tunnel knows."""
        with Tunnel(self.shop.port) as tunnel:
            try:
                self._send(tunnel.address, _ORDERS, key, order)
            except httpx.TransportError:
                return tunnel.lost_reply()
        raise RuntimeError("a reply came out of the tunnel")

    def order_until_answered(self, key: str | None, **order: Any) -> Reply:
        """Send an order as often as the shop answers 409, pausing as it asks, but not for long."""
        deadline = time.monotonic() + NEVER_SECONDS
        reply = self.order(key, **order)
        while reply.status_code == httpx.codes.CONFLICT and time.monotonic() < deadline:
            time.sleep(min(float(reply.headers.get("Retry-After", 0.1)), _LONGEST_PAUSE))
            reply = self.order(key, **order)
        return reply

    def order_in_background(self, key: str | None, **order: Any) -> Future[Reply]:
        """Send an order and go on; the reply, or the error, comes later."""
        return self._send_in_background(_ORDERS, key, order)

    def deliver_in_background(self, key: str, **order: Any) -> Future[Reply]:
        """The same for an order that is paid and brought to a door."""
        return self._send_in_background(_DELIVERIES, key, order)

    def _send_in_background(
        self, path: str, key: str | None, order: dict[str, Any]
    ) -> Future[Reply]:
        pool = ThreadPoolExecutor(1)
        future = pool.submit(self._send, self.shop.address, path, key, order)
        pool.shutdown(wait=False)
        return future

    def order_as_crowd(self, size: int, key: str, **order: Any) -> list[Future[Reply]]:
        """Send one order from ``size`` clients in the same moment; the replies come later."""
        start = Barrier(size)

        def send() -> Reply:
            # Made before: it takes longer than a request.
            with _client(self.shop.address) as client:
                start.wait(NEVER_SECONDS)
                return self._post(client, _ORDERS, key, order)

        pool = ThreadPoolExecutor(size)
        sent = [pool.submit(send) for _ in range(size)]
        pool.shutdown(wait=False)
        return sent


def wait_for(number: int, replies: list[Future[Reply]]) -> None:
    """Return when so many of them have come; raises TimeoutError."""
    for _ in islice(as_completed(replies, NEVER_SECONDS), number):
        pass
