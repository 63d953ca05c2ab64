"""The mutants still fit the code; running them takes minutes (``make mutants``)."""

import shutil
from pathlib import Path

import pytest

from tests.support.mutants import MUTANTS, PACKAGE, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_fits_the_code(mutant: Mutant, tmp_path: Path) -> None:
    """Each text is there exactly once, and what comes of it is Python."""
    for module, _, _ in mutant.changes:
        copy = tmp_path / PACKAGE / f"{module}.py"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / PACKAGE / f"{module}.py", copy)
    mutant.apply(tmp_path)
    for module, _, _ in mutant.changes:
        text = (tmp_path / PACKAGE / f"{module}.py").read_text()
        compile(text, module, "exec")
        assert text != (ROOT / PACKAGE / f"{module}.py").read_text()
    assert all((ROOT / path).exists() for path in mutant.tests)
