"""How large the contract's matrix was, and where the claims of each door ran."""

from collections import Counter
from collections.abc import Iterator

import pytest
from django.db import connection

from tests.app.urls import ASYNC, DOORS
from tests.contract.test_where_claims_run import WHERE


def _cells(reports: list[pytest.TestReport]) -> Iterator[str]:
    for report in reports:
        module, _, name = report.nodeid.partition("::")
        if report.when == "call" and "[" in name and "/contract/" in module and "/]" in name:
            yield module.rpartition("/")[2]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The number of cells, by module, and for each door: by itself, or joined."""
    cells = Counter(_cells(terminalreporter.stats.get("passed", [])))
    if not cells:
        return
    terminalreporter.section("contract matrix")
    doors = len(DOORS) + len(ASYNC)
    terminalreporter.line(f"{cells.total()} cells on {connection.vendor}, {doors} doors: {cells}")
    for where, names in sorted(WHERE.items()):
        terminalreporter.line(f"under ATOMIC_REQUESTS {where}: {', '.join(sorted(names))}")
