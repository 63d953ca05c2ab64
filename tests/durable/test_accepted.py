"""An order that was only accepted is run by completers, which are killed as well."""

import json
import time
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from django_idempotency.durable.completer import Completion
from testproject.provider.server import Provider

from . import books
from .finishing import let_the_lease_run_out, run_the_completer
from .victim import Errand, Request, crossed, kill_a_worker, lasting_kills, named

pytestmark = pytest.mark.django_db(transaction=True)


def accepted(token: str) -> tuple[Request, str]:
    """An order that no worker has begun, and the address of its state."""
    request = Request(token, path="/api/deliveries/later/")
    reply = request.send()
    assert (reply.status, reply.replayed) == (202, False)
    return request, json.loads(reply.body)["url"]


def asked(url: str, token: str) -> Any:
    """The customer's view of that address."""
    return Client().get(url, headers={"Authorization": f"Bearer {token}"})


def finished(request: Request, url: str, token: str) -> None:
    """The next completer finishes it, and its state says so; the response can be had everywhere."""
    assert asked(url, token).json()["state"] in ("accepted", "running")
    let_the_lease_run_out()
    assert set(run_the_completer()) <= {Completion.COMPLETED}
    state = asked(url, token).json()
    assert state["state"] == "completed"
    assert [step["status"] for step in state["steps"]] == ["completed"] * 5
    reply = request.send()
    assert (reply.status, reply.replayed) == (201, True)
    assert asked(state["response"]["url"], token).content == reply.body


def test_completer_killed_anywhere_is_followed_by_another(provider: Provider, token: str) -> None:
    """Before and after each COMMIT and each call: one of everything."""
    began, failures = time.monotonic(), []
    accepted(token)
    boundaries = crossed(Errand())
    strikes = list(lasting_kills(boundaries))
    for strike in strikes:
        books.clean(provider)
        request, url = accepted(token)
        kill_a_worker(Errand(strikes=(strike,)))
        try:
            books.check_halfway(provider)
            if asked(url, token).json()["state"] != "completed":
                finished(request, url, token)
            books.check_delivered(provider)
        except AssertionError as error:
            failures.append(f"{named(strike, boundaries)}: {error}")
    seconds = time.monotonic() - began
    print(f"\n{connection.display_name}: {len(strikes)} killed completers, {seconds:.0f} s")
    assert not failures, "\n".join(failures)


def test_stranger_is_told_nothing(provider: Provider, token: str) -> None:
    """Neither how far an order came nor what came of it."""
    _, url = accepted(token)
    run_the_completer()
    for address in (url, f"{url}response/"):
        assert Client().get(address).status_code == 401
