"""Steps inside Django's test cases, where everything joins the test's own transaction."""

from typing import Any

from django.test import TestCase, override_settings

from tests.app.models import Order
from tests.conftest import atomic_requests_on
from tests.support.stage import (
    DeclinedError,
    DownError,
    Service,
    bake,
    code,
    completed,
    fails_first,
    outcome,
    plays,
    runs,
    steps,
)
from tests.unit.durable.test_steps_undos import throw_away

KEY = "k" * 32


def declines(**kwargs: Any) -> None:
    """No."""
    raise DeclinedError


@override_settings(ROOT_URLCONF="tests.support.stage")
class InTestCase(TestCase):
    """A project's own tests, where everything joins the test's transaction."""

    databases = {"default", "other"}

    def _post(self, door: str = "/plain/", **headers: str) -> Any:
        self.client.raise_request_exception = False
        return self.client.post(door, headers={"Idempotency-Key": KEY, **headers})

    def _resumes(self, door: str) -> None:
        service = Service(DownError())

        @plays
        def act(op: Any) -> Any:
            ride = op.step("ride", bake, "ride", undo=throw_away)
            with op.atomic("pay") as block:
                if not block.recorded:
                    block.result = bake("pay")
            op.heartbeat()
            return ride, op.call("charge", service)["id"]

        assert self._post(door).status_code == 500
        assert steps() == {"ride": "completed", "pay": "completed"}
        assert outcome(self._post(door))
        assert self._post(door)["Idempotent-Replayed"] == "true"
        assert runs("bake ride") == runs("bake pay") == 1
        assert Order.objects.count() == 2
        assert len(service.keys) == 2

    def test_steps_and_calls_resume(self) -> None:
        """As in production."""
        self._resumes("/plain/")

    def test_steps_and_calls_resume_under_atomic_requests(self) -> None:
        """The view keeps out of the request's transaction here, too."""
        with atomic_requests_on("default"):
            self._resumes("/plain/")

    def test_completer_finishes(self) -> None:
        """What is due is due."""
        self._resumes_by_completer()

    def _resumes_by_completer(self) -> None:
        plays(fails_first(lambda op: op.step("ride", bake, "ride")))
        assert self._post("/kept/").status_code == 500
        assert completed() == ["completed"]
        assert outcome(self._post("/kept/"))
        assert runs("bake ride") == 1

    def test_failures_are_taken_back(self) -> None:
        """Undos run, and every attempt comes to the same end."""

        @plays
        def act(op: Any) -> Any:
            op.step("ride", bake, undo=throw_away)
            op.call("charge", declines, fatal=(DeclinedError,))

        for _ in range(2):
            assert code(self._post()) == "idempotency_operation_failed"
        assert Order.objects.count() == 0
        assert steps()["undo:ride"] == "completed"

    def test_calls_are_made_at_most_once(self) -> None:
        """Their outcome is unknown."""
        mail = Service((DownError(),))
        plays(lambda op: op.call("mail", mail, semantics="at_most_once"))
        for _ in range(2):
            assert code(self._post()) == "idempotency_outcome_unknown"
        assert len(mail.keys) == 1

    def test_without_a_key_steps_run(self) -> None:
        """Plainly."""
        plays(lambda op: [op.step("ride", bake), op.call("charge", Service())])
        reply = self.client.post("/plain/")
        assert outcome(reply)
        assert Order.objects.count() == 1
