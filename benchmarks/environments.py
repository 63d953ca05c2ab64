"""A virtual environment for each contestant, made once below ``.bench``.

They share the newest Django that the interpreter can have, and get 5.2 where a contestant does not
go together with that. ``BENCHMARK_PYTHON`` names another interpreter than the running one. ``python
-m benchmarks.environments`` makes all of them.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sites.contestants import CONTESTANT_VARIABLE, CONTESTANTS, Contestant
from tests.support.servers import DATABASE_VARIABLE

ROOT = Path(__file__).parent.parent
REQUIREMENTS = Path(__file__).parent / "requirements"
SETTINGS_VARIABLE, SETTINGS = "DJANGO_SETTINGS_MODULE", "benchmarks.sites.settings"
PYTHON = os.environ.get("BENCHMARK_PYTHON", sys.executable)
#: What is asked of the index beside the requirements, until one of them goes.
TRIES = ("Django", "Django==5.2.*")


class UnusableError(Exception):
    """A contestant does not install, or his site does not start."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a contestant's Python is."""

    name: str

    @property
    def folder(self) -> Path:
        """One for each version of Python, too."""
        return ROOT / ".bench" / f"python{_version_of(PYTHON)}" / self.name

    @property
    def python(self) -> Path:
        """His interpreter; run it from the root of the repository."""
        return self.folder / "bin" / "python"

    @property
    def files(self) -> list[Path]:
        """What he requires."""
        return [REQUIREMENTS / "common.txt", REQUIREMENTS / f"{self.name}.txt"]

    @property
    def stamp(self) -> Path:
        """Says what was installed."""
        return self.folder / "installed"

    def digest(self) -> str:
        """Changes with what is required."""
        return hashlib.sha256(b"".join(file.read_bytes() for file in self.files)).hexdigest()

    def is_made(self) -> bool:
        """Whether all is there already."""
        return self.stamp.exists() and self.stamp.read_text() == self.digest()


def _version_of(python: str) -> str:
    return _run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()


def _run(*command: str | Path, **variables: str) -> str:
    """What it printed; raises UnusableError with its last line."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ | variables
    )
    if done.returncode:
        raise UnusableError((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
    return done.stdout


def variables(contestant: Contestant, database: str) -> dict[str, str]:
    """What the processes of a contestant's site find in their environment."""
    return {
        CONTESTANT_VARIABLE: contestant.name,
        DATABASE_VARIABLE: database,
        SETTINGS_VARIABLE: SETTINGS,
    }


def _install(environment: Environment, django: str) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--upgrade"]
    files = [part for file in environment.files for part in ("--requirement", file)]
    _run(environment.python, "-m", "pip", "install", *options, *files, django)


def environment_of(contestant: Contestant) -> Environment:
    """The contestant's, made unless it is there; raises UnusableError."""
    environment = Environment(contestant.environment)
    if not environment.is_made():
        print(f"making the environment of {environment.name} ...", file=sys.stderr)
        _run(PYTHON, "-m", "venv", "--clear", environment.folder)
        _make(contestant, environment)
        environment.stamp.write_text(environment.digest())
    return environment


def _make(contestant: Contestant, environment: Environment) -> None:
    *newer, last = TRIES
    for django in newer:
        try:
            return _fill(contestant, environment, django)
        except UnusableError as error:
            print(f"  not with the newest {django}: {error}", file=sys.stderr)
    return _fill(contestant, environment, last)


def _fill(contestant: Contestant, environment: Environment, django: str) -> None:
    """Install, and raise UnusableError unless the site would start."""
    _install(environment, django)
    with tempfile.TemporaryDirectory() as folder:
        settings = variables(contestant, f"sqlite://{folder}")
        _run(environment.python, "-m", "django", "check", **settings)


def versions(environment: Environment) -> str:
    """Which Django it has, and which of the contestant."""
    text = "from importlib.metadata import version as v; print('Django', v('Django'))"
    return _run(environment.python, "-c", text).strip()


def main() -> int:
    """Make all; a line for each."""
    for contestant in CONTESTANTS.values():
        try:
            environment = environment_of(contestant)
        except UnusableError as error:
            print(f"{contestant.name}: {error}")
        else:
            print(f"{contestant.name}: {versions(environment)}, {environment.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
