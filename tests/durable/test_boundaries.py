"""kill -9 at every boundary of an order of five steps: one order, charge, courier and receipt."""

import json
import time
from collections.abc import Callable, Iterable

import pytest
from django.db import connection
from django.test import override_settings

from django_idempotency.models import IdempotencyEnvelope, IdempotencyStep
from testproject.provider.server import Provider
from testproject.shop.models import Order
from tests.crash.boundaries import Boundary, Strike

from . import books
from .finishing import FINISH
from .versions import VERSIONS
from .victim import Errand, Request, crossed, kill_a_worker, kills, lasting_kills, named

pytestmark = pytest.mark.django_db(transaction=True)


def finished(request: Request, when: str) -> None:
    """The client or the completer finishes the order; the client then gets one reply each time."""
    stored = IdempotencyEnvelope.objects.exists()
    reply = FINISH[when](request)
    assert reply.replayed or not (stored and when == "after")
    again = request.send()
    assert (again.status, again.body, again.replayed) == (201, reply.body, True)
    assert json.loads(reply.body)["ticket"] == str(Order.objects.get().ticket)


def failures(
    strikes: Iterable[Strike],
    boundaries: list[Boundary],
    provider: Provider,
    token: str,
    check: Callable[[], None] = lambda: None,
) -> list[str]:
    """What is wrong after a worker of the first version was killed, and its order finished."""
    found = []
    for strike in strikes:
        books.clean(provider)
        request = Request(token)
        kill_a_worker(Errand(request, (strike,)))
        try:
            books.check_halfway(provider)
            finished(request, strike.when)
            books.check_delivered(provider)
            check()
        except AssertionError as error:
            found.append(f"{named(strike, boundaries)}: {error}")
    return found


def test_killed_at_any_boundary_is_finished_once(provider: Provider, token: str) -> None:
    """Each statement, COMMIT and call of the order, from the first of the request to the last."""
    began = time.monotonic()
    boundaries = crossed(Errand(Request(token)))
    strikes = list(kills(boundaries))
    found = failures(strikes, boundaries, provider, token)
    words = [boundary.word for boundary in boundaries if boundary.is_sent]
    print(f"\n{connection.display_name}: {len(strikes)} kills, {time.monotonic() - began:.0f} s")
    print(" ".join(words))
    assert not found, "\n".join(found)
    assert words.count("COMMIT") >= 10
    assert {"POST /charges", "POST /pickups", "POST /receipts"} <= set(words)


def test_deploy_between_kill_and_retry_is_no_second_charge(provider: Provider, token: str) -> None:
    """The second version has a new step, another order of steps, and other names for two."""
    began = time.monotonic()
    boundaries = crossed(Errand(Request(token)))
    strikes = list(lasting_kills(boundaries))
    finished_by_the_second = 0

    def check() -> None:
        nonlocal finished_by_the_second
        finished_by_the_second += IdempotencyStep.objects.filter(name="wrap").count()

    with override_settings(ROOT_URLCONF=VERSIONS["second"]):
        found = failures(strikes, boundaries, provider, token, check)
    print(
        f"\n{connection.display_name}: {len(strikes)} kills before a deploy,"
        f" {finished_by_the_second} finished by the new version, {time.monotonic() - began:.0f} s"
    )
    assert not found, "\n".join(found)
    # All but those that were finished already.
    assert finished_by_the_second == len(strikes) - 1
