"""Starts servers, runs a command with their addresses, and stops the servers.

``python -m tests.support.servers --database mariadb --redis -- COMMAND ...`` returns COMMAND's exit
status, or 69 when one of the servers cannot be had here.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.support.servers import (
    REDIS_VARIABLE,
    UNAVAILABLE,
    MariaDB,
    PgBouncer,
    PostgreSQL,
    Server,
    ServerUnavailableError,
    Valkey,
)

# What a shell answers for a command that cannot be started.
NOT_FOUND = 127

DATABASES = (
    "postgresql",
    *(f"postgresql-{version}" for version in PostgreSQL.versions),
    "pgbouncer",
    "mariadb",
)


def chosen(database: str) -> list[Server]:
    """The servers to start for ``database``; the last one is what the command talks to."""
    kind, _, version = database.partition("-")
    if kind == "mariadb":
        return [MariaDB()]
    postgresql = PostgreSQL(version or PostgreSQL.versions[-1])
    return [postgresql, PgBouncer(postgresql)] if kind == "pgbouncer" else [postgresql]


def all_chosen(options: argparse.Namespace) -> list[Server]:
    """Every server that the command line asks for."""
    databases = chosen(options.database) if options.database else []
    return [*databases, Valkey()] if options.redis else databases


def run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run ``command`` with ``variables`` in its environment; its status as a shell reports it."""
    try:
        child = subprocess.Popen(command, env={**os.environ, **variables})
    except OSError as error:
        print(f"tests.support.servers: {command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND
    # A terminal sends Ctrl-C to the command as well: its end is awaited, then the servers stop.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    status = child.wait()
    return status if status >= 0 else 128 - status


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.servers", description=__doc__)
    parser.add_argument(
        "--database",
        choices=DATABASES,
        help=f"default: {DATABASES[0]}, version {PostgreSQL.versions[-1]}; none with --redis",
    )
    parser.add_argument(
        "--redis", action="store_true", help=f"a Valkey, whose URL is in {REDIS_VARIABLE}"
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args(arguments)
    if not options.redis and not options.database:
        options.database = DATABASES[0]
    return options


def main(arguments: Sequence[str]) -> int:
    """Start what was asked for, run the command, stop everything; the command's exit status."""
    options = parse(arguments)
    try:
        with contextlib.ExitStack() as running:
            started = [running.enter_context(server) for server in all_chosen(options)]
            return run(options.command, {server.variable: server.url for server in started})
    except ServerUnavailableError as error:
        print(f"tests.support.servers: {error}", file=sys.stderr)
        return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
