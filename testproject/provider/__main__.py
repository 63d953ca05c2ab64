"""Open the provider for a person: ``python -m testproject.provider [address:port]``."""

import argparse
import os
import sys

from testproject import gunicorns

from .server import ARGUMENTS, variables

DEFAULT_ADDRESS = "127.0.0.1:8001"


def main() -> None:
    """Become gunicorn, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m testproject.provider", description=__doc__)
    parser.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help="address:port")
    parser.add_argument("--ledger", default="", help="path of the ledger, an SQLite file")
    options = parser.parse_args()
    os.chdir(gunicorns.ROOT)
    command = [sys.executable, "-m", "gunicorn", "--bind", options.address, *ARGUMENTS]
    os.execve(sys.executable, command, variables(options.ledger))


if __name__ == "__main__":
    main()
