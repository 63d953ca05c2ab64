"""The architecture page lists the modules of the tree and the layers of ``setup.cfg``."""

import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path, PurePath

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "django_idempotency"
PAGE = (ROOT / "docs" / "architecture.rst").read_text()
# What is no room: marks for Python and for type checkers, and what Python leaves behind.
NO_ROOMS = ("__init__.py", "py.typed", "__pycache__")
MOST_ROOMS = 40


def drawn() -> Iterator[str]:
    """The paths in the tree, relative to the package."""
    _, _, tree = PAGE.partition("    django_idempotency/\n")
    folder = PurePath()
    for indent, name in re.findall(r"^( {6,8})(\w[\w.]*/?)  ", tree, re.MULTILINE):
        yield str((folder if len(indent) > 6 else PurePath()) / name)
        folder = PurePath(name) if len(indent) == 6 else folder


def test_tree_has_every_room() -> None:
    """Each file and each folder of the package, and few enough to remember."""
    rooms = {path.name for path in PACKAGE.iterdir()} - {*NO_ROOMS}
    assert {path for path in drawn() if "/" not in path} == rooms
    assert len(rooms) <= MOST_ROOMS


def test_every_path_on_the_page_exists() -> None:
    """In the tree, in the drawings and in the list of what to open."""
    above, _, _ = PAGE.partition("The tree\n")
    named = re.findall(r"(?<![\w/])((?:\w+/)+(?:\w+\.py)?|\w+\.py)", above)
    assert not {path for path in {*named, *drawn()} if not (PACKAGE / path).exists()}


def test_layers_are_those_of_the_contract() -> None:
    """Line by line."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    layers = config["importlinter:contract:layers"]["layers"].split("\n")
    _, _, table = PAGE.partition("The layers\n")
    assert re.findall(r"^``(.+?)``  ", table, re.MULTILINE) == [line for line in layers if line]
