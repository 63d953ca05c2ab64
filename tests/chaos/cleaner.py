"""Runs ``cleanup_idempotency`` all the time, until its standard input ends.

What it deleted is its last line of output. An unreachable database costs it a round.
"""

import contextlib
import io
import re
import select
import sys

import django
from django.core.management import call_command
from django.db import Error, connection

# Often enough that a record never waits for its deletion longer than for its expiry.
_PERIOD = 0.1


def clean() -> int:
    """How many expired records there were."""
    said = io.StringIO()
    call_command("cleanup_idempotency", stdout=said)
    found = re.search(r"\d+", said.getvalue())
    return int(found[0]) if found else 0


def main() -> None:
    """Clean up and clean up."""
    deleted = 0
    while not select.select([sys.stdin], [], [], _PERIOD)[0]:
        with contextlib.suppress(Error):
            connection.close_if_unusable_or_obsolete()
            deleted += clean()
    print(deleted)


if __name__ == "__main__":
    django.setup()
    main()
