"""The seven scenes. Each plays one accident and says what it found, with the cakes counted twice.

What a cake to the door set in motion outside of the shop is counted in its partners' ledger.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import httpx

from testproject.provider.server import Provider
from testproject.shop.gates import Gate

from .books import Books
from .customers import Customer, fresh_key, wait_for
from .server import Shop
from .tunnel import LostReply
from .waiting import eventually

CROWD = 16
# They belong to one transmission, not to the reply (RFC 9110, 7.6.1); the last marks the replay.
_NOT_THE_REPLY = frozenset(("connection", "date", "keep-alive", "idempotent-replayed"))


@dataclass(frozen=True)
class Outcome:
    """What a scene found: the cakes it counted, every fact that has to hold, and the moral."""

    counted: str
    facts: Mapping[str, bool]
    moral: str = ""

    @property
    def broken(self) -> list[str]:
        """The facts that do not hold."""
        return [fact for fact, holds in self.facts.items() if not holds]


@dataclass(frozen=True)
class Stage:
    """Where a scene is played: a shop, its partners, and two people who order there."""

    shop: Shop
    provider: Provider
    demo: Customer
    guest: Customer

    @property
    def books(self) -> Books:
        """Where the cakes are counted."""
        return self.shop.books

    def counted(self, icing: str) -> str:
        """Both counts, in words."""
        cakes, bakings = self.books.count(icing)
        plural = "" if cakes == 1 else "s"
        return f"{cakes} cake{plural} (database {cakes}, kitchen log {bakings})"


Scene = Callable[[Stage], Outcome]


def _is_replay(reply: httpx.Response) -> bool:
    return bool(reply.headers.get("Idempotent-Replayed") == "true")


def _ticket(reply: httpx.Response) -> UUID:
    return UUID(reply.json()["ticket"])


def _own_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    pairs = [(name.lower(), value) for name, value in headers]
    return sorted(pair for pair in pairs if pair[0] not in _NOT_THE_REPLY)


def _is_same(first: LostReply, reply: httpx.Response) -> bool:
    """Whether status, every header of the reply, and every byte of the body agree."""
    return (first.status, first.body) == (reply.status_code, reply.content) and _own_headers(
        first.headers
    ) == _own_headers(reply.headers.multi_items())


def lost_without_key(stage: Stage) -> Outcome:
    """(a) reply lost, no key."""
    order = {"cake": "strawberry", "icing": "Ada"}
    lost = stage.demo.order_from_tunnel(None, **order)
    retry = stage.demo.order(None, **order)
    facts = {
        "2 cakes, baked twice": stage.books.count("Ada") == (2, 2),
        "both answered 201": (lost.status, retry.status_code) == (201, 201),
        "two different replies": lost.body != retry.content,
    }
    return Outcome(stage.counted("Ada"), facts, "the retry was one more order")


def lost_with_key(stage: Stage) -> Outcome:
    """(b) reply lost, with a key."""
    order, key = {"cake": "strawberry", "icing": "Grace"}, fresh_key()
    lost = stage.demo.order_from_tunnel(key, **order)
    retries = [stage.demo.order(key, **order) for _ in range(2)]
    facts = {
        "1 cake, baked once": stage.books.count("Grace") == (1, 1),
        "the lost reply was 201": lost.status == 201,
        "two retries, both the lost reply": all(_is_same(lost, retry) for retry in retries),
        "both marked as replays": all(map(_is_replay, retries)),
        "its ticket is the order's": [_ticket(retries[0])] == stage.books.tickets("Grace"),
    }
    moral = (
        f"the retry got the lost {lost.status} byte for byte ({len(lost.body)} bytes and its"
        " headers), with Idempotent-Replayed: true"
    )
    return Outcome(stage.counted("Grace"), facts, moral)


def crowd(stage: Stage) -> Outcome:
    """(c) 16 clients at once, one key."""
    order, key = {"cake": "pistachio", "icing": "Alan"}, fresh_key()
    with stage.shop.keeping_shut(Gate.OVEN):
        sent = stage.demo.order_as_crowd(CROWD, key, **order)
        eventually(lambda: stage.books.bakings("Alan"), "nobody bakes")
        # The cake stays in the oven until all others have their answer; but for those who lost
        # their claim before they could begin: SQLite lets them wait for the one who bakes.
        wait_for(CROWD - stage.books.attempts(key), sent)
    replies = [reply.result() for reply in sent]
    served = [reply for reply in replies if reply.status_code == 201]
    # 503 is for those whom SQLite let wait too long.
    refused = [reply for reply in replies if reply.status_code in (409, 503)]
    retries = [stage.demo.order_until_answered(key, **order) for _ in refused]
    facts = {
        "1 cake, baked once": stage.books.count("Alan") == (1, 1),
        "one was served, and it was no replay": len(served) == 1 and not _is_replay(served[0]),
        "all others were told to wait": len(refused) == CROWD - 1,
        "and how long": all("Retry-After" in reply.headers for reply in refused),
        "and got a replay when they tried again": all(map(_is_replay, retries)),
        "with the same bytes": {retry.content for retry in retries}
        == {reply.content for reply in served},
    }
    kinds = Counter(reply.status_code for reply in refused)
    others = " and ".join(f"{number} got {status}" for status, number in sorted(kinds.items()))
    moral = (
        f"1 got 201; {others} with Retry-After while the cake was in the oven, tried again and"
        " got the same reply"
    )
    return Outcome(stage.counted("Alan"), facts, moral)


def _worker_that_bakes(stage: Stage, icing: str) -> int:
    """The process id of the worker that is baking; raises RuntimeError if it is not the shop's."""
    bakings = eventually(lambda: stage.books.bakings(icing), "nobody bakes")
    if bakings[0]["ppid"] != stage.shop.pid:
        raise RuntimeError("the worker that bakes is not the shop's")
    return int(bakings[0]["pid"])


def killed_worker(stage: Stage) -> Outcome:
    """(d) worker killed with -9 in the middle of the order."""
    order, key = {"cake": "chocolate", "icing": "Mary"}, fresh_key()
    with stage.shop.keeping_shut(Gate.OVEN):
        first = stage.demo.order_in_background(key, **order)
        worker = _worker_that_bakes(stage, "Mary")
        lease_end = stage.books.lease_end(key)
        os.kill(worker, signal.SIGKILL)
        cut_off = isinstance(first.exception(), httpx.TransportError)
    retry = stage.demo.order_until_answered(key, **order)
    left = (lease_end - stage.books.completion(key)).total_seconds()
    facts = {
        "1 cake, baked twice": stage.books.count("Mary") == (1, 2),
        "the first order was cut off": cut_off,
        "the retry was served": retry.status_code == 201 and not _is_replay(retry),
        "and did not wait for the end of the lease": left > 0,
        "its ticket is the order's": [_ticket(retry)] == stage.books.tickets("Mary"),
    }
    moral = (
        f"worker {worker} died over the first baking and left nothing; the retry baked again and"
        f" was done {left:.0f} s before the dead worker's lease would have ended"
    )
    return Outcome(stage.counted("Mary"), facts, moral)


def other_cake(stage: Stage) -> Outcome:
    """(e) same key, other cake."""
    key = fresh_key()
    first = stage.demo.order(key, cake="lemon", icing="Edith")
    other = stage.demo.order(key, cake="carrot", icing="Edith, again")
    facts = {
        "the first was served": first.status_code == 201,
        "and has its cake": stage.books.count("Edith") == (1, 1),
        "the other has none": stage.books.count("Edith, again") == (0, 0),
        "it was refused with 422": other.status_code == 422,
    }
    return Outcome(stage.counted("Edith, again"), facts, "refused with 422; the first has its cake")


def other_user(stage: Stage) -> Outcome:
    """(f) another user with the same key."""
    order, key = {"cake": "blueberry", "icing": "Joan"}, fresh_key()
    first, hers = stage.demo.order(key, **order), stage.guest.order(key, **order)
    facts = {
        "a cake each": stage.books.count("Joan") == (2, 2),
        "both were served": (first.status_code, hers.status_code) == (201, 201),
        "hers is no replay": not _is_replay(hers) and _ticket(first) != _ticket(hers),
    }
    return Outcome(stage.counted("Joan"), facts, "her own cake and her own reply")


def _done(stage: Stage) -> dict[str, int]:
    """What the partners have done, all in all."""
    services = {"charges": "charge", "pickups": "courier", "receipts": "receipt"}
    done = {name: len(stage.provider.ledger(service)) for service, name in services.items()}
    return done | {"refund": len(stage.provider.ledger("refunds"))}


def left_half_way(stage: Stage) -> Outcome:
    """(g) worker killed between charge and courier, client gone for good."""
    order = {"cake": "carrot", "icing": "Rosalind", "address": "221b Baker Street"}
    with stage.shop.keeping_shut(Gate.COURIER):
        first = stage.demo.deliver_in_background(fresh_key(), **order)
        worker = _worker_that_bakes(stage, "Rosalind")
        eventually(lambda: stage.provider.ledger("charges"), "nobody takes the money")
        os.kill(worker, signal.SIGKILL)
        cut_off, left = isinstance(first.exception(), httpx.TransportError), _done(stage)
    start = time.monotonic()
    with stage.shop.completing():
        eventually(lambda: stage.provider.ledger("receipts"), "nobody finishes")
    waited = time.monotonic() - start
    done = _done(stage)
    facts = {
        "the order was cut off": cut_off,
        "with the money taken, and no courier": (left["charge"], left["courier"]) == (1, 0),
        "1 cake, baked once": stage.books.count("Rosalind") == (1, 1),
        "1 charge, 1 courier, 1 receipt, and no refund": tuple(done.values()) == (1, 1, 1, 0),
    }
    counted = ", ".join(f"{done[name]} {name}" for name in ("charge", "courier", "receipt"))
    moral = (
        f"worker {worker} died with the money taken and no courier called; nobody asked again, and"
        f" the completer finished the order from there, {waited:.1f} s after it was started"
    )
    return Outcome(f"{stage.counted('Rosalind')}; {counted}", facts, moral)


SCENES: tuple[Scene, ...] = (
    lost_without_key,
    lost_with_key,
    crowd,
    killed_worker,
    other_cake,
    other_user,
    left_half_way,
)
