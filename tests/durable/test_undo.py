"""A partner refuses, and workers die over what has to be taken back: the money returns, once."""

import time
from dataclasses import dataclass

import pytest
from django.db import connection
from django.test import override_settings

from django_idempotency.durable.completer import Completion
from django_idempotency.exceptions import OperationFailedError
from django_idempotency.models import IdempotencyEnvelope
from testproject.provider.server import Provider
from tests.crash.boundaries import Boundary, Strike

from . import books
from .finishing import FINISH, run_the_completer
from .storm import is_thorough
from .versions import VERSIONS
from .victim import Errand, Reply, Request, crossed, kill_a_worker, kills, named

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass(frozen=True)
class Refusal:
    """The partner that refuses, the version of the shop, and what the client gets."""

    service: str
    status: int = 409
    version: str = "first"
    #: The call from which on there is something to take back.
    since: str = ""

    def prepare(self, provider: Provider) -> None:
        """Let it happen."""
        books.clean(provider)
        if self.service:
            provider.turn(self.service, "decline", times=1)

    def strikes(self, boundaries: list[Boundary]) -> list[Strike]:
        """Each kill from the refusal on."""
        words = [boundary.word for boundary in boundaries]
        first = words.index(self.since or f"POST /{self.service}") + 1
        found = [s for s in kills(boundaries) if isinstance(s.at, int) and s.at >= first]
        # Every third is before something and after something else in turn.
        return found if is_thorough() else found[::3]

    def check(self, reply: Reply) -> None:
        """The client knows where it stands."""
        assert reply.status == self.status
        assert self.status == 402 or reply.code == OperationFailedError.code


REFUSALS = {
    "charge": Refusal("charges", status=402),
    "courier": Refusal("pickups"),
    "paid": Refusal("", version="withdrawn", since="POST /pickups"),
    "receipt": Refusal("receipts"),
}


def taken_back(refusal: Refusal, request: Request, when: str, provider: Provider) -> None:
    """The order comes to its end, and every retry to the same."""
    reply = FINISH[when](request)
    refusal.check(reply)
    books.check_taken_back(provider)
    for _ in range(2):
        again = request.send()
        assert (again.status, again.body) == (reply.status, reply.body)
        # The refused client has stored the request again.
        assert set(run_the_completer()) <= {Completion.FAILED}
    books.check_taken_back(provider)
    assert not IdempotencyEnvelope.objects.exists()


@pytest.mark.parametrize("step", REFUSALS)
def test_refusal_takes_everything_back_whoever_dies(
    provider: Provider, token: str, step: str
) -> None:
    """Killed between the refusal and the end of the last undo."""
    began, refusal = time.monotonic(), REFUSALS[step]
    refusal.prepare(provider)
    boundaries = crossed(Errand(Request(token), version=refusal.version))
    strikes, failures = refusal.strikes(boundaries), []
    for strike in strikes:
        refusal.prepare(provider)
        request = Request(token)
        kill_a_worker(Errand(request, (strike,), refusal.version))
        try:
            with override_settings(ROOT_URLCONF=VERSIONS[refusal.version]):
                taken_back(refusal, request, strike.when, provider)
        except AssertionError as error:
            failures.append(f"{named(strike, boundaries)}: {error}")
    print(f"\n{connection.display_name}: {len(strikes)} kills, {time.monotonic() - began:.0f} s")
    assert not failures, "\n".join(failures)
