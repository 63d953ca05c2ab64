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
STEPS = "tests/test_steps.py"
CALLS = "tests/test_calls.py"
CHECKPOINTS = "tests/test_checkpoints.py"
UNDOS = "tests/test_undos.py"
ONCE = "tests/test_at_most_once.py"
ENVELOPES = "tests/test_envelopes.py"
COMPLETER = "tests/test_completer.py"
STEP_RACES = "tests/concurrency/test_steps.py"
STEP_UPKEEP = "tests/test_step_upkeep.py"

MUTANTS = (
    Mutant(
        "no-fence",
        (("statements", "id = %(id)s AND token = %(holder)s", "id = %(id)s"),),
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
                "                    self._settle(response, fate, last=not others)\n"
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
                'error = %(error)s", _GUARD)',
                "error = %(error)s, response_status = NULL, response_headers = NULL,"
                ' response_body = NULL, completed_at = NULL", _HELD)',
            ),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "late-release-that-waits",
        (("dialects/postgresql", "{condition} FOR NO KEY UPDATE SKIP LOCKED)", "{condition})"),),
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
                "dialects/postgresql",
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
        "commit-without-its-fence",
        (("dialects/postgresql", "WIDTH_BUCKET(0, 0, 1, COUNT(*)::integer)", "COUNT(*)"),),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "raised-commit-taken-for-rolled-back",
        (
            (
                "attempts",
                "            return self._after_commit_raised(error)\n",
                "            raise error\n",
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
        (
            ("store", "        if joined:\n", "        if False:\n"),
            ("store", "unflushed = terms.atomic and not joined", "unflushed = True"),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "record-read-from-the-replica",
        (("admission", "router.db_for_write", "router.db_for_read"),),
        ("tests/faults/test_replicas.py",),
    ),
    Mutant(
        "waiters-on-the-row",
        (
            (
                "dialects/postgresql",
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
        (("dialects/postgresql", 'in ("23505", "40001")', 'in ("23505",)'),),
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
        (("dialects/mysql", 'now = "UTC_TIMESTAMP(6)"', 'now = "NOW(6)"'),),
        ("tests/faults/test_clocks.py",),
        "mariadb",
    ),
    Mutant(
        "insert-that-waits",
        (("dialects/mysql", "SET STATEMENT innodb_lock_wait_timeout=0 FOR ", ""),),
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
            ("dialects/postgresql", " FOR NO KEY UPDATE SKIP LOCKED)", ")"),
        ),
        ("tests/admin", "tests/test_commands.py"),
    ),
    Mutant(
        "tells-before-it-is-so",
        (("events", "    elif event.kind in _ONLY_READ:", "    elif True:"),),
        ("tests/test_events.py",),
    ),
    Mutant(
        "step-without-a-beat",
        (
            (
                "checkpoints",
                "not self._journal.beat(claim.id, claim.terms.token, lease, wait=wait, mark=mark)",
                "False",
            ),
        ),
        (STEP_RACES, CHECKPOINTS),
    ),
    Mutant(
        "beat-that-extends-no-lease",
        (
            (
                "statements",
                "f\"lease_expires_at = {dialect.later.format('lease')}\"",
                '"lease_expires_at = lease_expires_at"',
            ),
        ),
        (CHECKPOINTS,),
    ),
    Mutant(
        "no-mark-on-a-step",
        (
            (
                "statements",
                'f"{_GUARD} AND error = %(mark)s" if dialect.marks else _GUARD',
                "_GUARD",
            ),
        ),
        (STEP_RACES, CHECKPOINTS),
        "mariadb",
    ),
    Mutant(
        "no-mark-on-a-failed-step",
        (("statements", "self._change(marked)", "self._change(_GUARD)"),),
        (STEP_RACES, CHECKPOINTS),
        "mariadb",
    ),
    Mutant(
        "one-mark-for-all-transactions-of-a-step",
        (("checkpoints", 'f"step {uuid.uuid4().hex[:12]} {name}"', 'f"step {name}"'),),
        (STEP_RACES, CHECKPOINTS),
        "mariadb",
    ),
    Mutant(
        "late-note-undoes-a-step",
        (("statements", 'f" AND status NOT IN ({_OVER})"', '""'),),
        (CHECKPOINTS,),
    ),
    Mutant(
        "step-changed-by-a-stranger",
        (("statements", 'f" AND EXISTS (SELECT 1 FROM {self.table} WHERE {guard})"', '""'),),
        (CHECKPOINTS,),
    ),
    Mutant(
        "checkpoint-in-its-own-commit",
        (
            (
                "steps",
                "                self._checkpoints.write(entry, mark=mark)\n"
                "        self._remember(work, entry, block.result)\n",
                "            self._checkpoints.record(entry)\n"
                "        self._remember(work, entry, block.result)\n",
            ),
        ),
        (CHECKPOINTS, STEPS),
    ),
    Mutant(
        "first-attempt-loads-its-steps",
        (("checkpoints", "= {} if is_first else None", "= None"),),
        (CHECKPOINTS,),
    ),
    Mutant(
        "rolled-back-step-without-a-key-is-done",
        (("checkpoints", "        if is_doomed(self._using):", "        if False:"),),
        (STEPS,),
    ),
    Mutant(
        "first-result-as-it-was-returned",
        (("steps", "payloads.read(text)", "result"),),
        ("tests/test_payloads.py",),
    ),
    Mutant(
        "recycling-keeps-steps",
        (
            (
                "store",
                "(self._texts.forget_steps, self._texts.forget_envelope) if other else ()",
                "()",
            ),
        ),
        (STEPS, STEP_RACES),
    ),
    Mutant(
        "other-request-goes-on-with-the-steps-of-the-first",
        (
            (
                "claims",
                "    if not (same or step.anew) and store.is_unfinished(intent.id):\n"
                "        raise KeyReusedError\n",
                "",
            ),
        ),
        (STEPS,),
    ),
    Mutant(
        "downstream-key-with-the-attempt-in-it",
        (
            (
                "steps",
                "downstream_key(intent, work.first_name)",
                'downstream_key(intent, f"{work.first_name} {self._checkpoints._claim.terms}")',
            ),
        ),
        (CALLS,),
    ),
    Mutant(
        "downstream-key-of-the-newest-name",
        (("steps", "work.first_name", "work.name"),),
        (CALLS,),
    ),
    Mutant(
        "call-inside-a-transaction",
        (("steps", "        self._refuse_transaction(work)\n", ""),),
        (STEPS,),
    ),
    Mutant(
        "lease-does-not-cover-the-call",
        (("checkpoints", "            self.beat(duration)\n", "            self.beat()\n"),),
        (CHECKPOINTS,),
    ),
    Mutant(
        "lost-claim-makes-calls",
        (("checkpoints", "if self._lost or age + duration >", "if age + duration >"),),
        (STEP_RACES,),
    ),
    Mutant(
        "fatal-is-retried",
        (("retry", " and not isinstance(error, never)", ""),),
        (UNDOS,),
    ),
    Mutant(
        "pauses-without-jitter",
        (("retry", "random.uniform(0, ", "max(0, "),),
        ("tests/test_retry.py",),
    ),
    Mutant(
        "undos-in-the-order-of-their-steps",
        (
            ("steps", "self._done[-1]", "self._done[0]"),
            ("steps", "self._done.pop()", "self._done.pop(0)"),
        ),
        (UNDOS,),
    ),
    Mutant(
        "failure-is-recorded-after-the-undos",
        (
            (
                "steps",
                "        self._checkpoints.record(run.entry(StepStatus.FAILED, error=name))\n"
                "        self._take_back()\n",
                "        self._take_back()\n"
                "        self._checkpoints.record(run.entry(StepStatus.FAILED, error=name))\n",
            ),
        ),
        (UNDOS,),
    ),
    Mutant(
        "started-is-not-written-first",
        (
            (
                "steps",
                "        self._checkpoints.record(started, run.work.timeout or timedelta())\n",
                "",
            ),
        ),
        (ONCE,),
    ),
    Mutant(
        "call-in-doubt-is-made-again",
        (("steps", "_IN_DOUBT = (StepStatus.STARTED, StepStatus.UNKNOWN)", "_IN_DOUBT = ()"),),
        (ONCE,),
    ),
    Mutant(
        "request-outlives-its-operation",
        (
            (
                "attempts",
                "        if self._has_envelope:\n            self.claim.wipe()\n",
                "",
            ),
        ),
        (ENVELOPES,),
    ),
    Mutant(
        "request-deleted-in-a-commit-of-its-own",
        (
            (
                "attempts",
                "transaction.atomic(using=self.alias) if self._has_envelope else nullcontext()",
                "nullcontext()",
            ),
        ),
        (ENVELOPES,),
    ),
    Mutant(
        "credentials-are-stored",
        (("envelopes", '"HTTP_HOST", ', '"HTTP_HOST", "HTTP_AUTHORIZATION", "HTTP_COOKIE", '),),
        (ENVELOPES,),
    ),
    Mutant(
        "completer-without-compare-and-set",
        (
            (
                "completer",
                "filter(pk=row.pk, tries=row.tries)\n    return",
                "filter(pk=row.pk)\n    return",
            ),
        ),
        (COMPLETER,),
    ),
    Mutant(
        "completer-for-who-may-not-log-in",
        (("completer", "if user is None or not user.is_active:", "if user is None:"),),
        (COMPLETER,),
    ),
    Mutant(
        "completer-that-begins-anew",
        (
            (
                "claims",
                "    if found is None and intent.is_resumed:\n        raise KeyErasedError\n",
                "",
            ),
        ),
        (COMPLETER,),
    ),
    Mutant(
        "unfinished-operation-expires",
        (
            ("claims", " and found.expired and not intent.is_resumed", " and found.expired"),
            ("claims", " and store.has_envelope(intent.id)", " and False"),
        ),
        (COMPLETER,),
    ),
    Mutant(
        "who-was-fenced-off-throws-the-request-away",
        (
            (
                "completer",
                "    if record.token != resumption.token or error in _NOT_OURS:\n"
                "        return _busy(using, row)\n",
                "",
            ),
        ),
        (COMPLETER,),
    ),
    Mutant(
        "clean-up-of-the-unfinished",
        (
            (
                "statements",
                "f\"(status = '{Status.COMPLETED.value}' OR NOT {self._has(self.envelopes)})\"",
                '"TRUE"',
            ),
        ),
        (STEP_UPKEEP,),
    ),
    Mutant(
        "clean-up-leaves-orphans",
        (
            (
                "statements",
                'f"NOT {self._has(self.steps)} AND NOT {self._has(self.envelopes)}"',
                '"TRUE"',
            ),
        ),
        (STEP_UPKEEP,),
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
