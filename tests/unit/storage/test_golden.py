"""The files in ``golden`` show every statement as it is sent; ``make sql`` writes them anew."""

from functools import partial

import pytest

from django_idempotency.storage.dialects import DIALECTS

from .golden.layout import laid_out
from .golden.texts import PURPOSES, built, file_of, golden

pytestmark = pytest.mark.parametrize("vendor", DIALECTS)


def test_file_shows_what_is_built(vendor: str) -> None:
    """A statement that was changed on purpose is read in the diff of its file."""
    assert file_of(vendor).read_text() == golden(vendor), "make sql writes the files anew"


def test_every_statement_has_a_purpose(vendor: str) -> None:
    """None of those that are described is gone."""
    expected = {kind.__name__: set(purposes) for kind, purposes in PURPOSES.items()}
    assert {kind: set(texts) for kind, texts in built(vendor).items()} == expected


def test_layout_changes_only_white_space(vendor: str) -> None:
    """What is read is what is sent."""
    for texts in built(vendor).values():
        for text in texts.values():
            for part in text if isinstance(text, tuple) else (text,):
                assert "".join(laid_out(part).split()) == "".join(part.split())


def test_no_fragment_of_the_dialect_is_left_out(
    vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them changes, the file does."""
    dialect, before = DIALECTS[vendor], golden(vendor)
    # The one is a value, the other belongs to the other way to claim.
    others = {"beginning", "insert" if dialect.insert_and_read else "probing"}
    names = {name for name in dir(dialect) if not name.startswith("_")} - others
    fragments = [name for name in names if isinstance(getattr(dialect, name), str)]
    for name in filter(partial(getattr, dialect), fragments):
        with monkeypatch.context() as patch:
            patch.setattr(dialect, name, f"{getattr(dialect, name)} /* {name} */")
            assert golden(vendor) != before, name
