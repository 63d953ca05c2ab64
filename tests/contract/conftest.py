"""How large the contract's matrix was, and where the claims of each door ran."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from django.db import connection

from tests.app.urls import ASYNC, DOORS
from tests.contract.test_where_claims_run import WHERE

# A test that was run for one door among others has that door's URL among its parameters.
_DOOR = re.compile(r"[\[-](/[\w/-]+/)[\]-]")


def _cells(reports: list[pytest.TestReport]) -> Iterator[str]:
    for report in reports:
        module, _, name = report.nodeid.partition("::")
        if report.when == "call" and "/contract/" in module and _DOOR.search(name):
            yield module.rpartition("/")[2]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The number of cells, by module, and for each door: by itself, or joined."""
    cells = Counter(_cells(terminalreporter.stats.get("passed", [])))
    if not cells:
        return
    terminalreporter.section("contract matrix")
    doors = len(DOORS) + len(ASYNC)
    terminalreporter.line(f"{cells.total()} cells on {connection.vendor}, {doors} doors")
    for module, number in cells.most_common():
        terminalreporter.line(f"{number:6} {module}")
    for where, names in sorted(WHERE.items()):
        terminalreporter.line(f"under ATOMIC_REQUESTS {where}: {', '.join(sorted(names))}")
