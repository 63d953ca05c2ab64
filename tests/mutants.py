"""Sabotages of the protocol, each of which the suite must notice.

``python -m tests.mutants`` breaks a copy of the tree in one way after the other, runs the tests
that ought to notice, and lists which test killed which mutant; ``python -m tests.mutants no-fence``
does so with one. A mutant that lives is a promise nobody checks: exit status 1.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import DATABASE_VARIABLE, MariaDB, PostgreSQL, Server, ServerUnavailableError

ROOT = Path(__file__).parent.parent
PACKAGE = "django_idempotency"
_KILLED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_SERVERS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}
#: Longer than any of these tests takes alone.
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Mutant:
    """One sabotage: texts to replace in the package's modules, and the tests that should notice."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]
    database: str = "postgresql"

    def apply(self, tree: Path) -> None:
        """Break the tree; raises LookupError where the code is not what it was."""
        for module, before, after in self.changes:
            path = tree / PACKAGE / f"{module}.py"
            text = path.read_text()
            if text.count(before) != 1:
                raise LookupError(f"{self.name}: {text.count(before)} times in {module}: {before}")
            path.write_text(text.replace(before, after))


CLAIMS = "tests/test_claims.py"
KILLS = "tests/crash/test_kills.py"
ORDERS = "tests/concurrency/test_interleavings.py"
WAITING = "tests/concurrency/test_waiting.py"
OUTCOMES = "tests/contract/test_outcomes.py"

MUTANTS = (
    Mutant(
        "no-fence",
        (
            (
                "statements",
                "id = %(id)s AND token = %(holder)s AND status",
                "id = %(id)s AND status",
            ),
        ),
        (CLAIMS,),
    ),
    Mutant(
        "no-row-lock",
        (("claims", "        if not self.is_locked:\n            return\n", "        return\n"),),
        (KILLS, ORDERS),
    ),
    Mutant(
        "completion-in-its-own-commit",
        (
            (
                "attempts",
                "                if fate is not Verdict.ROLL_BACK:\n"
                "                    self.phase = _Phase.SAVE\n"
                "                    self._settle(response, fate)\n"
                "                self.phase = _Phase.COMMIT\n",
                "                self.phase = _Phase.COMMIT\n"
                "        if fate is not Verdict.ROLL_BACK:\n"
                "            self._settle(response, fate)\n",
            ),
        ),
        (KILLS,),
    ),
    Mutant(
        "counter-as-token",
        (("claims", "Terms(uuid.uuid4(), attempts,", "Terms(uuid.UUID(int=attempts), attempts,"),),
        (ORDERS, CLAIMS),
    ),
    Mutant(
        "retention-by-the-app-clock",
        (
            ("statements", 'd.later.format("life")', '"%(app_clock)s"'),
            (
                "store",
                '            "life": ',
                '            "app_clock": timezone.now() + terms.lease + terms.retention,\n'
                '            "life": ',
            ),
            (
                "store",
                "from django.db import DatabaseError",
                "from django.utils import timezone\nfrom django.db import DatabaseError",
            ),
        ),
        ("tests/faults/test_clocks.py",),
    ),
    Mutant(
        "late-release-guarded-by-token-alone",
        (
            (
                "statements",
                '"status = %(status)s, error = %(error)s", _GUARD',
                '"status = %(status)s, error = %(error)s, response_status = NULL,'
                ' response_headers = NULL, response_body = NULL, completed_at = NULL",'
                ' "id = %(id)s AND token = %(holder)s"',
            ),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "late-release-that-waits",
        (("dialects", "{condition} FOR NO KEY UPDATE SKIP LOCKED)", "{condition})"),),
        (ORDERS, KILLS),
    ),
    Mutant(
        "takeover-without-grace",
        (("claims", "return found.touched or found.age >= grace", "return True"),),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "grace-without-doubling",
        (("claims", "grace * 2.0 ** (found.attempts - 1)", "grace"),),
        (ORDERS,),
    ),
    Mutant(
        "locked-taken-for-lost",
        (
            (
                "attempts",
                "            return self._transaction(view, patiently=True)\n",
                '            raise TransitionError("locked") from None\n',
            ),
        ),
        (ORDERS,),
    ),
    Mutant(
        "delete-without-its-condition",
        (
            (
                "dialects",
                '        "(SELECT ctid FROM {table} WHERE {condition} LIMIT %(limit)s'
                ' FOR UPDATE SKIP LOCKED))"\n        " AND {condition}"\n',
                '        "(SELECT ctid FROM {table} WHERE {condition} LIMIT %(limit)s))"\n',
            ),
        ),
        (ORDERS,),
    ),
    Mutant(
        "expired-before-status",
        (("claims", "found.status is not Status.IN_PROGRESS and found.expired", "found.expired"),),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "save-before-render",
        (("calls", "lambda: _rendered(handler())", "lambda: handler()"),),
        ("tests/contract/test_replays.py",),
    ),
    Mutant(
        "no-rowcount-check",
        (
            (
                "store",
                "text + self._texts.mark if locked else text, params) == 1",
                "text, params) >= 0",
            ),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "raised-commit-taken-for-rolled-back",
        (
            (
                "attempts",
                "                return self._after_commit_raised(error)\n",
                "                raise error\n",
            ),
        ),
        (KILLS,),
    ),
    Mutant(
        "lost-claim-runs-on",
        (
            (
                "claims",
                '            raise TransitionError("taken over before the view began")\n',
                "            return\n",
            ),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "claims-in-the-view-s-transaction-never-flush",
        (("store", "unflushed = terms.atomic and not self.joined", "unflushed = True"),),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "record-read-from-the-replica",
        (("execution", "router.db_for_write", "router.db_for_read"),),
        ("tests/faults/test_replicas.py",),
    ),
    Mutant(
        "waiters-on-the-row",
        (
            (
                "dialects",
                'watch_text = "SELECT pg_advisory_xact_lock_shared({lock})"',
                "watch_text = \"SELECT 1 FROM {table} WHERE id = '{id}' FOR SHARE\"",
            ),
        ),
        (WAITING,),
    ),
    Mutant(
        "seats-never-given-back",
        (("claims", "self._waiting -= 1", "pass"),),
        (WAITING,),
    ),
    Mutant(
        "unlimited-waiters",
        (("claims", "if self._waiting >= seats:", "if False:"),),
        (WAITING,),
    ),
    Mutant(
        "serialization-failure-is-an-error",
        (("dialects", 'in ("23505", "40001")', 'in ("23505",)'),),
        (ORDERS, "tests/faults"),
    ),
    Mutant(
        "no-mark",
        (("store", "text + self._texts.mark if locked else text", "text"),),
        ("tests/faults/test_deadlocks.py",),
        "mariadb",
    ),
    Mutant(
        "clock-of-the-server-s-zone",
        (("dialects", 'now = "UTC_TIMESTAMP(6)"', 'now = "NOW(6)"'),),
        ("tests/faults/test_clocks.py",),
        "mariadb",
    ),
    Mutant(
        "insert-that-waits",
        (("dialects", "SET STATEMENT innodb_lock_wait_timeout=0 FOR ", ""),),
        (ORDERS, "tests/faults"),
        "mariadb",
    ),
    Mutant(
        "cleans-up-the-running",
        (
            (
                "statements",
                'over = f"expires_at <= {dialect.now} AND status <> {_RUNNING}"',
                'over = f"expires_at <= {dialect.now}"',
            ),
        ),
        ("tests/test_commands.py", "tests/admin"),
    ),
    Mutant(
        "erased-key-runs-as-another",
        (("claims", "    if not found.fingerprint:\n        raise KeyErasedError\n", ""),),
        ("tests/test_commands.py",),
    ),
    Mutant(
        "frees-the-living-by-hand",
        (
            (
                "upkeep",
                "if self._is_alive(found):\n            return False\n        params = self._held(",
                "params = self._held(",
            ),
            ("maintenance", "if not seems_dead(found, store.dialect.grace):", "if False:"),
            ("dialects", " FOR NO KEY UPDATE SKIP LOCKED)", ")"),
        ),
        ("tests/admin", "tests/test_commands.py"),
    ),
    Mutant(
        "tells-before-it-is-so",
        (("events", "    elif event.kind in _ONLY_READ:", "    elif True:"),),
        ("tests/test_events.py",),
    ),
)


@contextlib.contextmanager
def broken(mutant: Mutant) -> Iterator[Path]:
    """A copy of the tree with the sabotage in it."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in (PACKAGE, "tests"):
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, tree)
        mutant.apply(tree)
        yield tree


def killer(mutant: Mutant, url: str) -> str | None:
    """The first test that fails with the sabotage in place, or None."""
    with broken(mutant) as tree:
        log = tree / "log"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *mutant.tests]
        environment = {**os.environ, DATABASE_VARIABLE: url, "PYTHONPATH": str(tree)}
        with log.open("w") as output:
            try:
                status = subprocess.run(
                    command,
                    cwd=tree,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=_PATIENCE_SECONDS,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return "a test that hung"
        text = log.read_text()
    if status not in (0, 1):
        raise RuntimeError(text)
    found = _KILLED.search(text)
    return found[1] if found else None


def lives(mutants: Sequence[Mutant], database: str) -> int:
    """Hunt the mutants of one database; how many lived."""
    with _SERVERS[database]() as server:
        survivors = 0
        for mutant in mutants:
            name = killer(mutant, server.url)
            survivors += name is None
            print(f"{mutant.name:<42} {database:<11} {name or 'LIVES'}", flush=True)
    return survivors


def main(arguments: Sequence[str]) -> int:
    """Hunt the mutants that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    asked = parser.parse_args(arguments).names or names
    if unknown := set(asked) - set(names):
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    survivors = 0
    for database in _SERVERS:
        mutants = [m for m in MUTANTS if m.name in asked and m.database == database]
        try:
            survivors += lives(mutants, database) if mutants else 0
        except ServerUnavailableError as error:
            print(f"LEFT OUT: {len(mutants)} mutants of {database}: {error}", file=sys.stderr)
            survivors += len(mutants)
    print(f"{len(asked) - survivors} killed, {survivors} alive")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
