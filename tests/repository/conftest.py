"""The repository itself: its tools, its servers, its translations, its documentation."""

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """All tests in this folder give the same answer on every database."""
    item.add_marker(pytest.mark.once)
