"""Serialization failures (40001) at each statement of the protocol, raised by the server itself."""

from collections.abc import Iterator

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import served

from .crowd import ask, until_answered

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="only PostgreSQL answers 40001 to such statements"
    ),
]

TABLE = IdempotencyRecord._meta.db_table
FUNCTION = """
    CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END $$
"""
#: By statement, the trigger that makes it fail.
TRIGGERS = {
    "insert": "TRIGGER fault BEFORE INSERT ON {} FOR EACH ROW",
    "take": "TRIGGER fault BEFORE UPDATE ON {} FOR EACH ROW WHEN (NEW.token <> OLD.token)",
    "complete": "TRIGGER fault BEFORE UPDATE ON {} FOR EACH ROW WHEN (NEW.status = 'completed')",
    "release": "TRIGGER fault BEFORE UPDATE ON {} FOR EACH ROW WHEN (NEW.status = 'released')",
    "commit": (
        "CONSTRAINT TRIGGER fault AFTER UPDATE ON {} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " WHEN (NEW.status = 'completed')"
    ),
}
DOORS = served("/function/", "/mixin/")


def execute(statement: str) -> None:
    """Run a statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def mend() -> None:
    """Let the statement succeed again."""
    execute(f"DROP TRIGGER IF EXISTS fault ON {TABLE}")


@pytest.fixture(params=TRIGGERS)
def failing(request: pytest.FixtureRequest) -> Iterator[str]:
    """A statement of the protocol that fails with 40001."""
    execute(FUNCTION)
    execute(f"CREATE {TRIGGERS[request.param].format(TABLE)} EXECUTE FUNCTION fault()")
    yield request.param
    mend()
    execute("DROP FUNCTION fault()")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("failing", ["insert"], indirect=True)
def test_claim_that_cannot_be_serialized_runs_nothing(failing: str, door: str, key: str) -> None:
    """The claim is tried three times; then the reply is a 503."""
    reply = ask(door, key)
    assert effects.count() == Order.objects.count() == 0
    assert reply.status_code == 503
    assert reply["Retry-After"] == "1"
    mend()
    assert until_answered(door, key).status_code == 201


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("failing", ["take"], indirect=True)
def test_takeover_that_cannot_be_serialized_runs_nothing(failing: str, door: str, key: str) -> None:
    """It seems as if another process had been faster."""
    ask(f"{door}?act=crash", key)
    assert IdempotencyRecord.objects.get().status == Status.RELEASED
    reply = ask(f"{door}?act=crash", key)
    assert effects.count() == 1
    assert reply.status_code == 409
    mend()
    assert ask(f"{door}?act=crash", key).status_code == 500
    assert effects.count() == 2


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("failing", "act", "status"),
    [("complete", "order", 201), ("release", "unauthorized", 401), ("commit", "order", 201)],
    indirect=["failing"],
)
def test_end_that_cannot_be_serialized_undoes_the_view(
    failing: str, act: str, status: int, door: str, key: str
) -> None:
    """The reply is no outcome: the writes are gone, and the key is free for the retry."""
    reply = ask(f"{door}?act={act}", key)
    assert Order.objects.count() == 0
    assert effects.count() == 1
    # A COMMIT may fail because of the view's own writes; only the layer's statement is a 503.
    assert reply.status_code in ((500, 503) if failing == "commit" else (409, 503))
    mend()
    until_answered(f"{door}?act={act}", key, status=status)
    assert Order.objects.count() == 1
    assert effects.count() == 2


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("failing", ["release"], indirect=True)
def test_late_release_that_cannot_be_serialized_leaves_a_takeover(
    failing: str, door: str, key: str
) -> None:
    """The reply is the view's error all the same."""
    assert ask(f"{door}?act=crash", key).status_code == 500
    assert Order.objects.count() == 0
    assert IdempotencyRecord.objects.get().status == Status.IN_PROGRESS
    mend()
    until_answered(f"{door}?act=crash", key, status=500)
    assert effects.count() == 2
    assert IdempotencyRecord.objects.get().status == Status.RELEASED
