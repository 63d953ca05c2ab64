"""The checks of databases, and of a project without faults."""

from collections.abc import Iterable
from itertools import chain

import pytest
from django.core.checks import CheckMessage, Tags, run_checks
from django.core.checks.registry import registry
from django.db import connection, connections

from django_idempotency.checks import databases as checks


def ids(messages: Iterable[CheckMessage]) -> list[str | None]:
    """Their ids."""
    return [message.id for message in messages]


@pytest.mark.django_db(databases=["default", "other"])
def test_project_of_the_tests_is_fine() -> None:
    """No message of ours."""
    ours = [m for m in run_checks() if (m.id or "").startswith("django_idempotency")]
    assert ours == []


def test_autocommit_off_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """E002."""
    monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
    assert ids(checks.check_autocommit(None)) == ["django_idempotency.E002"]


@pytest.mark.parametrize(
    ("setting", "value", "found"),
    [
        ("AUTOCOMMIT", False, "django_idempotency.E002"),
        pytest.param(
            *("OPTIONS", {}, "django_idempotency.W008"),
            marks=pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's mode"),
        ),
    ],
    ids=["autocommit", "deferred"],
)
@pytest.mark.django_db(databases=["default", "other"])
def test_setting_of_a_database_is_found_without_naming_the_database(
    setting: str, value: object, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django 6.1 runs the checks that are tagged ``database`` only with ``--database``."""
    monkeypatch.setitem(connections["default"].settings_dict, setting, value)
    checked = [check for check in registry.get_checks(True) if Tags.database not in check.tags]
    messages = chain.from_iterable(check(app_configs=None, databases=None) for check in checked)
    assert found in ids(messages)


def test_unknown_database_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """E003."""
    monkeypatch.setattr(connections["default"], "vendor", "oracle")
    assert ids(checks.check_vendor(None)) == ["django_idempotency.E003"]


def test_several_databases_with_atomic_requests_draw_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W001."""
    for alias in ("default", "other"):
        monkeypatch.setitem(connections[alias].settings_dict, "ATOMIC_REQUESTS", True)
    assert ids(checks.check_atomic_requests(None)) == ["django_idempotency.W001"]


@pytest.mark.parametrize(
    ("options", "found"),
    [({}, ["django_idempotency.W008"]), ({"transaction_mode": "IMMEDIATE"}, [])],
    ids=["deferred", "immediate"],
)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's mode")
def test_deferred_transactions_of_sqlite_draw_a_warning(
    options: dict[str, str], found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W008, as the settings say: ``check --deploy`` opens no connection."""
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    assert ids(checks.check_sqlite(None)) == found


@pytest.mark.django_db
def test_missing_table_draws_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """W009."""
    assert ids(checks.check_tables(None, databases=["default"])) == []
    monkeypatch.setattr(connection.introspection, "table_names", list)
    assert ids(checks.check_tables(None, databases=["default"])) == ["django_idempotency.W009"]
    assert ids(checks.check_tables(None)) == []


@pytest.mark.django_db(databases=["default", "other"])
def test_production_s_checks_are_for_deployments_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """``startproject`` makes a SQLite that would draw one."""
    monkeypatch.setattr(connection.introspection, "table_names", list)
    usual, deployed = (
        ids(run_checks(databases=["default"], include_deployment_checks=deploy))
        for deploy in (False, True)
    )
    assert "django_idempotency.W009" not in usual
    assert "django_idempotency.W009" in deployed
