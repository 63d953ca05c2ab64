"""The protocol is the same for each way in which parameters are bound on PostgreSQL."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test import Client
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from tests.app import effects, views
from tests.app.models import Order
from tests.app.urls import served
from tests.conftest import Post
from tests.crash.test_kills import kill, until_it_runs, worker

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only psycopg leaves a choice"),
]

#: Options of the connection, and whether the package prepares its own statements.
WAYS: dict[str, tuple[dict[str, Any], bool | None]] = {
    "client": ({}, False),
    "client, prepared where nothing stands between": ({}, None),
    "client, prepared": ({}, True),
    "server": ({"server_side_binding": True}, False),
    "server, prepared": ({"server_side_binding": True, "prepare_threshold": 0}, False),
    "server, prepared by the package": ({"server_side_binding": True}, True),
}
PREPARED = [name for name in WAYS if "prepared" in name]
BY_THE_PACKAGE = [name for name in PREPARED if name != "server, prepared"]
TABLE = IdempotencyRecord._meta.db_table
DOORS = served("/function/", "/mixin/", "/inside/")
OURS = "SELECT COUNT(*) FROM pg_prepared_statements WHERE statement LIKE '%%idempotencyrecord%%'"


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """A new connection that binds parameters in this way."""
    options, settings.IDEMPOTENCY_PREPARE = WAYS[request.param]
    before = connection.settings_dict["OPTIONS"]
    connection.close()
    connection.settings_dict["OPTIONS"] = before | options
    yield request.param
    connection.close()
    connection.settings_dict["OPTIONS"] = before


def sent(post: Post, key: str) -> list[str]:
    """The statements of a request; Django's log does not know the text of prepared ones."""
    texts: list[str] = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        texts.append(sql)
        return execute(sql, *args)

    with connection.execute_wrapper(note):
        assert post("/function/", key).status_code == 201
    return texts


def prepared() -> int:
    """How many statements about records the server keeps a plan of."""
    with connection.cursor() as cursor:
        cursor.execute(OURS)
        return int(cursor.fetchone()[0])


def ask(path: str, key: str | None = None) -> Any:
    """Send the request that a worker has sent."""
    return Client().post(path, headers={"Idempotency-Key": key or ""})


@pytest.mark.parametrize("door", DOORS)
def test_request_runs_once_and_is_replayed(way: str, door: str, key: str, post: Post) -> None:
    """Three keys, so that prepared statements are used again."""
    for number in range(3):
        first = post(door, f"{key}{number}")
        assert Order.objects.count() == effects.count() == number + 1
        again = post(door, f"{key}{number}")
        assert again.content == first.content
        assert again["Idempotent-Replayed"] == "true"
        assert Order.objects.count() == effects.count() == number + 1


def test_key_that_was_freed_expired_or_reused_is_known(way: str, key: str, post: Post) -> None:
    """Every statement of the protocol is run: release, take, take anew, and the refusals."""
    assert post("/function/", key, act="unauthorized").status_code == 401
    assert IdempotencyRecord.objects.get().status == Status.RELEASED
    assert post("/function/", key, act="crash").status_code == 500
    assert IdempotencyRecord.objects.get().error
    first = post("/function/", key)
    assert first.status_code == 201
    assert post("/function/", key, act="crash").status_code == 422
    IdempotencyRecord.objects.update(expires_at=UtcNow() - timedelta(seconds=1))
    again = post("/function/", key)
    assert again.status_code == 201
    assert again.content != first.content
    # The writes of a 401 stay, and those of a crash do not.
    assert (Order.objects.count(), effects.count()) == (3, 4)


def test_owner_is_asked_for_and_taken_over_when_dead(way: str, key: str) -> None:
    """The claim's own message probes the owner's lock."""
    with worker("in-view", key) as owner:
        assert ask("/function/", key).status_code == 409
        kill(owner)
        assert until_it_runs(ask, "/function/", key).status_code == 201
    assert Order.objects.count() == 1
    assert IdempotencyRecord.objects.get().attempts == 2


def test_lost_claim_commits_nothing(
    way: str, key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The COMMIT is fenced, however it is sent with the completion."""
    order = views.order

    def losing(request: Any, nonce: str) -> Any:
        response = order(request, nonce)
        IdempotencyRecord.objects.update(token=uuid.uuid4())
        return response

    monkeypatch.setitem(views.ACTS, "order", losing)
    for number in range(3):
        assert post("/function/", f"{key}{number}").status_code == 409
    assert (Order.objects.count(), effects.count()) == (0, 3)


@pytest.mark.parametrize("way", PREPARED, indirect=True)
def test_plans_are_kept_and_used_again(way: str, key: str, post: Post) -> None:
    """Claim, heartbeat and completion are prepared once for all keys."""
    for number in range(2):
        post("/function/", f"{key}{number}")
    kept = prepared()
    assert kept >= 3
    for number in (2, 2, 3):
        post("/function/", f"{key}{number}")
    assert prepared() == kept


@pytest.mark.parametrize("way", BY_THE_PACKAGE, indirect=True)
def test_statement_of_the_project_is_not_prepared_by_the_package(
    way: str, key: str, post: Post
) -> None:
    """Django's own cursors bind as the project has configured them."""
    for number in range(2):
        post("/function/", f"{key}{number}")
    for _ in range(8):
        assert Order.objects.count() == 2
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM pg_prepared_statements"
            " WHERE statement NOT LIKE '%%idempotencyrecord%%' AND statement <> 'COMMIT'"
        )
        assert cursor.fetchone()[0] == 0


@pytest.fixture
def tenant() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """A schema with records of its own, and requests that are sent there as by django-tenants."""

    def run(*statements: str) -> None:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    @contextmanager
    def there() -> Iterator[None]:
        run("SET search_path TO tenant, public")
        yield
        run("SET search_path TO public")

    run("CREATE SCHEMA tenant", f"CREATE TABLE tenant.{TABLE} (LIKE public.{TABLE} INCLUDING ALL)")
    yield there
    run("DROP SCHEMA tenant CASCADE")


def test_plan_follows_the_tenant(
    way: str, key: str, post: Post, tenant: Callable[[], AbstractContextManager[None]]
) -> None:
    """PostgreSQL makes a new plan for another search path; each tenant has its own keys."""
    for number in range(8):
        theirs = post("/function/", f"{key}{number}")
        with tenant():
            ours = post("/function/", f"{key}{number}")
            assert IdempotencyRecord.objects.count() == number + 1
            assert post("/function/", f"{key}{number}").content == ours.content
        assert post("/function/", f"{key}{number}").content == theirs.content != ours.content
    assert IdempotencyRecord.objects.count() == 8
    assert Order.objects.count() == effects.count() == 16


@pytest.mark.parametrize("way", PREPARED, indirect=True)
def test_statements_of_a_fresh_key_stay_in_the_budget(way: str, key: str, post: Post) -> None:
    """A fresh key takes claim, heartbeat and completion; a replay takes one statement."""
    assert len([text for text in sent(post, key) if "idempotencyrecord" in text]) == 3
    assert len(sent(post, key)) == 1


def test_pooler_and_prepared_statements_draw_a_warning(settings: Settings) -> None:
    """A project disables server-side cursors for a pooler that assigns servers by transaction."""
    settings.IDEMPOTENCY_PREPARE = True
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = True
    try:
        found = [message.id for message in run_checks(databases=["default"])]
    finally:
        connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = False
    assert found.count("django_idempotency.W014") == 1
