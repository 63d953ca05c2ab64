"""Starts a database, and runs these tests on it with the settings they need.

``python -m tests.durable --kills 500 --database postgresql --seed 7`` takes minutes; without
``--kills`` it is short enough for every day. Further arguments are pytest's.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from tests.chaos.arena import DATABASES, database_server
from tests.support.servers import DATABASE_VARIABLE, UNAVAILABLE, ServerUnavailableError

from .storm import KILLS_VARIABLE, SEED_VARIABLE

ROOT = Path(__file__).parents[2]
PYTEST = (sys.executable, "-m", "pytest", "--ds", "tests.durable.settings")


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the command line asks for, and what it asks pytest for."""
    parser = argparse.ArgumentParser(prog="python -m tests.durable", description=__doc__)
    parser.add_argument("--kills", type=int, help="in the storm, and so many orders (30)")
    parser.add_argument("--seed", type=int, default=1, help="repeats the storm (1)")
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    return parser.parse_known_args(arguments)


def environment(options: argparse.Namespace) -> dict[str, str]:
    """The environment that the tests read."""
    kills = {} if options.kills is None else {KILLS_VARIABLE: str(options.kills)}
    return {SEED_VARIABLE: str(options.seed), **kills}


def main(arguments: Sequence[str]) -> int:
    """Pytest's exit status."""
    options, further = parse(arguments)
    command = [*PYTEST, "-q", "-s", "tests/durable", *further]
    try:
        with database_server(options.database) or nullcontext() as server:
            database = {DATABASE_VARIABLE: server.url if server else "sqlite"}
            told = os.environ | database | environment(options)
            return subprocess.run(command, cwd=ROOT, env=told, check=False).returncode
    except ServerUnavailableError as error:
        print(f"tests.durable: {error}", file=sys.stderr)
        return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
