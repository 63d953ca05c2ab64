"""A virtual environment for each contestant, made once below ``.bench``."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.sites.contestants import CONTESTANT_VARIABLE, Contestant
from tests.support.servers import DATABASE_VARIABLE

ROOT = Path(__file__).parent.parent
REQUIREMENTS = Path(__file__).parent / "requirements"
FOLDER = ROOT / ".bench" / f"python{sys.version_info.major}.{sys.version_info.minor}"
_VERSIONS = """
from importlib.metadata import version
names = ("Django", "djangorestframework", "psycopg", "PyMySQL", "redis")
print(", ".join(f"{name} {version(name)}" for name in names))
"""


class UnusableError(Exception):
    """A contestant cannot be installed, or its site does not start."""


def run(*command: str | Path, **others: str) -> str:
    """What a command prints; raises UnusableError with its last line if it fails."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ | others
    )
    if done.returncode:
        raise UnusableError((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
    return done.stdout


def variables(contestant: Contestant, address: str) -> dict[str, str]:
    """The environment of the processes of a contestant's site."""
    return {
        CONTESTANT_VARIABLE: contestant.name,
        DATABASE_VARIABLE: address,
        "DJANGO_SETTINGS_MODULE": "benchmarks.sites.settings",
    }


def python_of(contestant: Contestant) -> Path:
    """The contestant's interpreter, whose environment is made unless it is there.

    Raises UnusableError. Run it from the root of the repository.
    """
    folder = FOLDER / contestant.environment
    python, stamp = folder / "bin" / "python", folder / "installed"
    files = [REQUIREMENTS / "common.txt", REQUIREMENTS / f"{contestant.environment}.txt"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    if not (stamp.exists() and stamp.read_text() == digest):
        print(f"making the environment of {contestant.environment} ...", file=sys.stderr)
        run(sys.executable, "-m", "venv", "--clear", folder)
        _install(contestant, python, files)
        stamp.write_text(digest)
    return python


def versions(python: Path) -> str:
    """What an environment has."""
    return run(python, "-c", _VERSIONS).strip()


def _install(contestant: Contestant, python: Path, files: list[Path]) -> None:
    """Install, and see whether the site would start."""
    options = ("--quiet", "--disable-pip-version-check", "--upgrade")
    wanted = [part for file in files for part in ("--requirement", file)]
    run(python, "-m", "pip", "install", *options, *wanted)
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "django", "check", **variables(contestant, f"sqlite://{folder}"))
