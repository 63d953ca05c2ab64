"""The tables in the documentation say what the code does."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from django.dispatch import Signal

from django_idempotency import conf, exceptions, signals
from django_idempotency.durable.completer import Completion
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.http.responses import NO_OUTCOME
from django_idempotency.monitoring.events import Kind
from django_idempotency.policy import Policy
from django_idempotency.status.state import State

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHELL = r" +(make|pip|python|manage.py|curl|\d+ \*)\b"
ERRORS = [error for error in vars(exceptions).values() if isinstance(error, type)]


def rows(page: str, pattern: str) -> list[Any]:
    """What ``pattern`` finds at the beginning of a page's lines."""
    return re.findall(pattern, (DOCS / page).read_text(), re.MULTILINE)


def in_words(default: Any) -> str:
    """A default as the tables have it: durations and sizes in words, all else as a literal."""
    if isinstance(default, timedelta):
        seconds = int(default.total_seconds())
        return f"{seconds} s" if seconds % 3600 else f"{seconds // 3600} hours"
    if type(default) is int and default >= 1024:
        return f"{default >> 20} MiB" if default >= 1 << 20 else f"{default >> 10} KiB"
    literal = json.dumps(default) if isinstance(default, str | tuple) else repr(default)
    return f"``{literal}``"


def test_table_of_options_has_every_option_and_its_default() -> None:
    """In the order of the code."""
    table = rows("options.rst", r"^``([a-z_]+)`` {2,}(.+?) {2,}")
    assert table == [(field.name, in_words(field.default)) for field in fields(Policy)]


def test_table_of_settings_has_every_setting_and_its_default() -> None:
    """Those that are no options."""
    table = dict(rows("options.rst", r"^``(IDEMPOTENCY_\w+)`` {2,}(.+?) {2,}"))
    options = {f"{conf.PREFIX}{field.name.upper()}" for field in fields(Policy)}
    assert table == {
        name: in_words(setting.default)
        for name, setting in conf.SETTINGS.items()
        if name not in options
    }


def texts() -> Iterator[str]:
    """Everything that names settings: the documentation, and the package itself."""
    package = ROOT / "django_idempotency"
    found = (*DOCS.rglob("*.rst"), ROOT / "README.rst", *package.rglob("*.py"))
    return (path.read_text() for path in (*found, *package.rglob("*.html")))


def test_settings_that_are_named_anywhere_are_there() -> None:
    """Variables of the environment for the test suite aside."""
    named = {name for text in texts() for name in re.findall(r"\bIDEMPOTENCY_[A-Z_]*[A-Z]", text)}
    assert len(named) > 20
    assert {name for name in named if not name.startswith("IDEMPOTENCY_TEST_")} <= {*conf.SETTINGS}


def test_defaults_that_are_named_elsewhere_are_the_code_s() -> None:
    """In brackets behind the setting; and those that are the other way round."""
    value = r"(\d+ (?:s|KiB|MiB))"
    behind = [
        pair
        for text in texts()
        for pair in re.findall(rf"``(IDEMPOTENCY_\w+)``\s\({value}\)", text)
    ]
    before = [
        (name, f"``{number}``")
        for text in texts()
        for number, name in re.findall(r"(\d+) tries\s\(``(IDEMPOTENCY_\w+)``\)", text)
    ]
    assert len(behind) > 2
    assert before
    for name, default in (*behind, *before):
        assert default == in_words(conf.SETTINGS[name].default), name


def test_table_of_exceptions_has_every_other_one() -> None:
    """What is no refusal, and yet somebody may meet."""
    ours = [error for error in ERRORS if error.__module__ == exceptions.__name__]
    assert set(rows("errors.rst", r"^``(\w+Error)``  ")) == {
        error.__name__
        for error in ours
        if issubclass(error, Exception) and not issubclass(error, IdempotencyError)
    }


def test_table_of_states_has_every_state() -> None:
    """What becomes of an operation that is completed, and how far one is that was accepted."""
    words = rows("steps.rst", r"^``(\w+)`` {2,}\w")
    assert [*Completion, *State] == words


@pytest.mark.parametrize(
    "page", ["../README.rst", "steps.rst", "options.rst", "privacy.rst", "redis.rst"]
)
def test_examples_can_be_parsed(page: str) -> None:
    """Those that are Python: others begin with a command."""
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", (DOCS / page).read_text())
    code = [dedent(block) for block in blocks if not re.match(SHELL, block)]
    assert code
    for block in code:
        # In a list, "..." stands for what the reader has there.
        compile(re.sub(r"(?m)^ +\.\.\.$", r"\g<0>,", block), page, "exec", ast.PyCF_ONLY_AST)


def test_table_of_errors_has_every_error() -> None:
    """Status and code."""
    table = {code: int(status) for status, code in rows("errors.rst", r" (\d{3}) +``(\w+)``$")}
    ours = [error for error in ERRORS if issubclass(error, IdempotencyError)]
    assert table == {error.code: error.status for error in ours if error is not IdempotencyError}


def test_table_of_remedies_has_every_error() -> None:
    """What the client does next."""
    table = dict(rows("errors.rst", r"^``(idempotency_\w+)`` +``(\w+)``"))
    ours = [error for error in ERRORS if issubclass(error, IdempotencyError)]
    assert table == {e.code: e.remedy for e in ours if e is not IdempotencyError}


def test_tree_of_errors_is_the_code_s() -> None:
    """The drawing at the top of the module."""
    pattern = r"── (\w+) +(\d+) +(\w+) +(\w+)( +Retry-After)?"
    drawn = re.findall(pattern, exceptions.__doc__ or "")
    for name, status, code, remedy, retry in drawn:
        error = getattr(exceptions, name)
        assert (str(error.status), error.code, error.remedy) == (status, code, remedy)
        assert bool(error.retry_after) == bool(retry)
    assert {code for _, _, code, *_ in drawn} == {
        error.code for error in IdempotencyError.__subclasses__()
    }


def test_table_of_statuses_is_the_code_s() -> None:
    """Which answers free the key."""
    (listed,) = re.findall(r"^returns (400[\d\s]+)", (DOCS / "guarantees.rst").read_text(), re.M)
    assert {int(status) for status in listed.split()} == NO_OUTCOME


def test_ids_of_checks_are_documented_once() -> None:
    """Every id in the code is in the table, and none is used twice; each message has a hint."""
    modules = (ROOT / "django_idempotency" / "checks").glob("*.py")
    source = "".join(module.read_text() for module in modules)
    ids = re.findall(r'id="(django_idempotency\.\w+)"', source)
    assert len(set(ids)) == len(ids) == source.count("hint=")
    assert sorted(ids) == sorted(
        row for row in rows("errors.rst", r"^``(django_idempotency\.\w+)``")
    )


def test_table_of_signals_has_every_signal() -> None:
    """And the dashboard asks for counters that there are."""
    found = [name for name, value in vars(signals).items() if isinstance(value, Signal)]
    assert rows("observability.rst", r"^``(\w+)`` {2,}") == found == [*Kind]
    asked = set(re.findall(r'event=~\\"([\w|]+)', (DOCS / "grafana.json").read_text()))
    assert {name for names in asked for name in names.split("|")} <= {*Kind, "failed"}


@pytest.mark.parametrize("page", ["http.rst", "redis.rst", "reliability.rst"])
def test_tests_that_a_page_names_are_there(page: str) -> None:
    """Each rule is held by a test."""
    named = re.findall(r"``((?:\w+/)*test_\w+\.py)(?:::(\w+))?``", (DOCS / page).read_text())
    assert len(named) > 10
    for module, name in named:
        source = (ROOT / "tests" / module.removeprefix("tests/")).read_text()
        assert not name or f"def {name}(" in source, name


@pytest.mark.parametrize(
    "name", ["idempotent", "IdempotencyMixin", "downstream_key", "atomic=False"]
)
def test_readme_names_what_a_newcomer_needs(name: str) -> None:
    """It is the one page everybody reads."""
    assert name in (ROOT / "README.rst").read_text()
