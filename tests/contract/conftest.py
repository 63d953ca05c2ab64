"""The doors of the contract's matrix, its size, and whether each door's claims joined."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.app.urls import ASYNC, DOORS
from tests.contract.test_where_claims_run import WHERE

# The id of a test that runs once for each door contains the door's URL.
_DOOR = re.compile(r"[\[-](/[\w/-]+/)[\]-]")

# One door for each way to a database: exceptions reach the layer or REST framework first, the claim
# commits by itself or joins, coroutines, nested doors. The other doors differ before that.
_FEW = {
    *("/function/", "/above/", "/api-method/", "/mixin/", "/twice/"),
    *("/below/", "/ninja/door/", "/async-function/"),
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """All tests in this folder say what every door promises."""
    item.add_marker(pytest.mark.contract)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--few-doors``, skip the doors that only the full matrix needs."""
    if config.getoption("few_doors"):
        config.hook.pytest_deselected(items=[item for item in items if _is_another(item)])
        items[:] = [item for item in items if not _is_another(item)]


def _is_another(item: pytest.Item) -> bool:
    of_contract = item.path.parent == Path(__file__).parent
    door = getattr(item, "callspec", None) and item.callspec.params.get("door")
    return of_contract and door in {*DOORS, *ASYNC} - _FEW


def _cells(reports: list[pytest.TestReport]) -> Iterator[str]:
    for report in reports:
        module, _, name = report.nodeid.partition("::")
        if report.when == "call" and "/contract/" in module and _DOOR.search(name):
            yield module.rpartition("/")[2]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of cells by module, and whether each door's claims committed or joined."""
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
