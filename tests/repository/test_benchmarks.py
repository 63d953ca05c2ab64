"""The measurements that the documentation names can be asked for."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.__main__ import SECTIONS, Ended
from tests.support.servers import UNAVAILABLE

ROOT = Path(__file__).parents[2]
IMAGES = sorted((ROOT / "docs" / "images").glob("bench-*.svg"))
PAGES = [*ROOT.glob("*.rst"), *ROOT.glob("docs/**/*.rst")]


@pytest.mark.parametrize("name", SECTIONS)
def test_section_is_a_module(name: str) -> None:
    """Each section is started as a module."""
    assert find_spec(f"benchmarks.{name}")


@pytest.mark.parametrize("name", SECTIONS)
def test_section_is_shown(name: str) -> None:
    """A page shows what the section printed, and the output names the command that makes it."""
    output = (ROOT / "docs" / "measured" / f"{name}.txt").read_text()
    assert output.startswith(f"$ make bench ONLY={name}")
    assert any(f"literalinclude:: measured/{name}.txt" in page.read_text() for page in PAGES)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.stem)
def test_plot_is_shown(image: Path) -> None:
    """On the page that has the figures, too."""
    assert f"images/{image.name}" in (ROOT / "docs" / "performance.rst").read_text()


def test_shown_plots_exist() -> None:
    """No page shows a plot that is no longer drawn."""
    shown = set(re.findall(r"images/(bench-\S+)", " ".join(map(Path.read_text, PAGES))))
    assert shown == {image.name for image in IMAGES}


def test_documented_sections_exist() -> None:
    """Every section that a page names after ``make bench ONLY=`` can be run."""
    found = " ".join(re.findall(r'ONLY="?([a-z ]+)', " ".join(map(Path.read_text, PAGES))))
    assert found
    assert set(found.split()) <= set(SECTIONS)


def test_section_that_cannot_run_here_is_no_failure() -> None:
    """The summary says that it was left out."""
    verdicts = [Ended("load", status, 1.0).verdict for status in (0, 1, UNAVAILABLE)]
    assert verdicts == ["ok", "FAILED", "left out"]
