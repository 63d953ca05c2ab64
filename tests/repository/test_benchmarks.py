"""The measurements that the documentation names can be asked for."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.__main__ import SECTIONS, Ended
from tests.support.servers import UNAVAILABLE

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.rst"), *ROOT.glob("docs/**/*.rst")]


@pytest.mark.parametrize("name", SECTIONS)
def test_section_is_a_module(name: str) -> None:
    """Each is started as one."""
    assert find_spec(f"benchmarks.{name}")


def test_documented_sections_exist() -> None:
    """Those behind ``make bench ONLY=``."""
    found = " ".join(re.findall(r'ONLY="?([a-z ]+)', " ".join(map(Path.read_text, PAGES))))
    assert found
    assert set(found.split()) <= set(SECTIONS)


def test_section_that_cannot_run_here_is_no_failure() -> None:
    """It is left out, and the summary says so."""
    verdicts = [Ended("load", status, 1.0).verdict for status in (0, 1, UNAVAILABLE)]
    assert verdicts == ["ok", "FAILED", "left out"]
