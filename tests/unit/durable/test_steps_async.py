"""Steps in coroutines, whose functions may be coroutine functions or not."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.test import AsyncClient, Client

from django_idempotency.exceptions import NotDoneError
from django_idempotency.models import IdempotencyStep
from django_idempotency.operation import current_operation
from django_idempotency.retry import Retry
from tests.app.models import Order
from tests.conftest import Post
from tests.support.stage import (
    ON_STAGE,
    DeclinedError,
    DownError,
    Service,
    bake,
    code,
    fails_first,
    outcome,
    plays,
    record,
    runs,
    step,
    steps,
)

pytestmark = ON_STAGE

DOOR = "/coroutine/"


async def abake(cake: str = "lemon") -> dict[str, Any]:
    """A row, from a coroutine."""
    return await sync_to_async(bake)(cake)


class AsyncService(Service):
    """A service that is asked by a coroutine."""

    async def ask(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return self(*args, **kwargs)


def send(key: str | None, *, asgi: bool) -> Any:
    """The same request through WSGI or ASGI."""
    headers = {"Idempotency-Key": key} if key else {}
    if not asgi:
        return Client(raise_request_exception=False).post(DOOR, headers=headers)

    async def post() -> Any:
        return await AsyncClient(raise_request_exception=False).post(DOOR, headers=headers)

    return async_to_sync(post)()


@pytest.mark.parametrize("asgi", [False, True], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("bakes", [bake, abake], ids=["function", "coroutine"])
def test_attempt_resumes_behind_its_last_step(bakes: Any, asgi: bool, key: str) -> None:
    """Each of them once, with the same value."""
    service = AsyncService()
    fails_early, fails_late = fails_first(), fails_first()
    seen = []

    @plays
    async def act(op: Any) -> Any:
        done: list[Any] = [await op.astep("ride", bakes, "ride")]
        seen.append(done)
        fails_early()
        done.append(await op.acall("charge", service.ask, done[0]["pk"]))
        await op.aheartbeat()
        fails_late()
        done.append(await op.astep("pay", bakes, "pay", key=1))
        return done

    for _ in range(2):
        assert send(key, asgi=asgi).status_code == 500
    assert outcome(send(key, asgi=asgi)) == seen[-1]
    assert seen[0] == seen[2][:1]
    assert runs("bake ride") == runs("bake pay") == 1
    assert Order.objects.count() == 2
    assert len(service.keys) == 1
    assert steps() == dict.fromkeys(("ride", "charge", "pay[1]"), "completed")


def test_step_of_a_coroutine_is_rolled_back_with_its_rows(key: str, post: Post) -> None:
    """The row was written by another coroutine, in the transaction of the step."""
    fail = fails_first()

    async def fails() -> Any:
        done = await abake()
        fail()
        return done

    @plays
    async def act(op: Any) -> Any:
        return await op.astep("ride", fails)

    assert post(DOOR, key).status_code == 500
    assert Order.objects.count() == 0
    assert step("ride").status == "retrying"
    assert outcome(post(DOOR, key))
    assert Order.objects.count() == 1


def test_calls_of_coroutines_are_retried(key: str, post: Post) -> None:
    """Each try is a coroutine of its own."""
    service = AsyncService(*[DownError()] * 4)
    retry = Retry(attempts=3, base=timedelta())

    @plays
    async def act(op: Any) -> Any:
        return await op.acall("charge", service.ask, retry=retry, timeout=timedelta(seconds=2))

    assert code(post(DOOR, key)) == "idempotency_operation_pending"
    assert outcome(post(DOOR, key))["timeout"] == 2
    assert len(service.keys) == 5
    assert len(set(service.keys)) == 1


def test_coroutines_take_back_what_coroutines_did(key: str, post: Post) -> None:
    """Undos, reconcile and what is fatal."""
    undone = []

    async def undo(result: Any, **kwargs: Any) -> None:
        undone.append((sorted(kwargs), threading.current_thread().name))

    async def declines(**kwargs: Any) -> None:
        raise DeclinedError

    @plays
    async def act(op: Any) -> Any:
        await op.astep("ride", abake, undo=undo)
        await op.acall("charge", AsyncService().ask, undo=undo)
        await op.acall("ship", declines, fatal=(DeclinedError,))

    for _ in range(2):
        assert code(post(DOOR, key)) == "idempotency_operation_failed"
    assert [names for names, _ in undone] == [["idempotency_key"], []]


def test_coroutine_says_what_came_of_a_call(key: str, post: Post) -> None:
    """At most once."""
    mail = AsyncService(DownError())

    async def find(*, idempotency_key: str) -> Any:
        if idempotency_key not in mail.ledger:
            raise NotDoneError
        return mail.ledger[idempotency_key]

    @plays
    async def act(op: Any) -> Any:
        return await op.acall("mail", mail.ask, semantics="at_most_once", reconcile=find)

    assert code(post(DOOR, key)) == "idempotency_operation_pending"
    assert outcome(post(DOOR, key))
    assert len(mail.keys) == 2
    assert len(mail.ledger) == 1


def test_calls_that_are_gathered_are_each_recorded(key: str) -> None:
    """One after the other, in the thread of the request."""
    service = AsyncService()

    @plays
    async def act(op: Any) -> Any:
        return await asyncio.gather(
            *(op.acall("charge", service.ask, number, key=number) for number in range(5)),
            *(op.astep("pack", abake, str(number), key=number) for number in range(5)),
        )

    assert len(outcome(send(key, asgi=True))) == 10
    assert len(set(service.keys)) == 5
    assert Order.objects.count() == 5
    assert set(steps().values()) == {"completed"}


@pytest.mark.parametrize("asgi", [False, True], ids=["wsgi", "asgi"])
def test_steps_of_a_coroutine_run_plainly_without_a_key(asgi: bool) -> None:
    """Nothing is recorded."""
    service = AsyncService()

    @plays
    async def act(op: Any) -> Any:
        current: Any = current_operation()
        assert current is op
        return [await op.astep("ride", abake), await op.acall("charge", service.ask)]

    assert len(outcome(send(None, asgi=asgi))) == 2
    assert Order.objects.count() == 1
    assert not IdempotencyStep.objects.exists()


def test_operation_is_current_inside_its_steps(key: str, post: Post) -> None:
    """In functions and in coroutines, whichever thread they run in."""
    seen = []

    async def look(**kwargs: Any) -> None:
        seen.append(current_operation())

    def look_plainly(**kwargs: Any) -> None:
        seen.append(current_operation())

    @plays
    async def act(op: Any) -> Any:
        for number, function in enumerate((look, look_plainly)):
            await op.astep("step", function, key=number)
            await op.acall("call", function, key=number)
        return [each is op for each in seen]

    assert outcome(post(DOOR, key)) == [True] * 4


def test_plain_step_in_a_coroutine_is_refused(key: str, post: Post) -> None:
    """Django's own words; nothing ran."""

    @plays
    async def act(op: Any) -> Any:
        with pytest.raises(SynchronousOnlyOperation):
            op.step("ride", bake)
        return await op.astep("ride", bake)

    assert outcome(post(DOOR, key))
    assert Order.objects.count() == 1


def test_plain_view_may_call_coroutines(key: str, post: Post) -> None:
    """The functions of a step may be coroutine functions anywhere."""
    service = AsyncService()
    plays(lambda op: [op.step("ride", abake), op.call("charge", service.ask)])
    assert len(outcome(post("/plain/", key))) == 2
    assert outcome(post("/plain/", key))
    assert len(service.keys) == Order.objects.count() == 1


def test_lost_claim_of_a_coroutine_is_a_409(key: str, post: Post) -> None:
    """Its next step is refused, and the key is not its own to free."""

    @plays
    async def act(op: Any) -> Any:
        await sync_to_async(steal)(op)
        return await op.astep("ride", abake)

    def steal(op: Any) -> None:
        row = record()
        row.token = op.record_id
        row.save()

    assert code(post(DOOR, key)) == "idempotency_in_progress"
    assert runs("bake lemon") == 0
    assert record().status == "in_progress"
