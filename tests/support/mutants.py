"""Sabotages of the protocol, each of which the suite must notice.

``python -m tests.support.mutants`` breaks a copy of the tree in one way after the other, runs the
tests that ought to notice, and lists which test killed which mutant; with ``no-fence`` at the end
it does so with that one. A mutant that lives is a promise that no test checks: exit status 1.
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

from tests.support.servers import (
    DATABASE_VARIABLE,
    MariaDB,
    PostgreSQL,
    Server,
    ServerUnavailableError,
)

ROOT = Path(__file__).parents[2]
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


CLAIMS = "tests/unit/protocol/test_claims.py"
KILLS = "tests/crash/test_kills.py"
ORDERS = "tests/concurrency/test_interleavings.py"
WAITING = "tests/concurrency/test_waiting.py"
OUTCOMES = "tests/contract/test_outcomes.py"
FORMS = "tests/contract/test_forms.py"
STEPS = "tests/unit/durable/test_steps.py"
CALLS = "tests/unit/durable/test_steps_calls.py"
CHECKPOINTS = "tests/unit/durable/test_checkpoints.py"
UNDOS = "tests/unit/durable/test_steps_undos.py"
ONCE = "tests/unit/durable/test_steps_at_most_once.py"
ENVELOPES = "tests/unit/durable/test_envelopes.py"
COMPLETER = "tests/unit/durable/test_completer.py"
STEP_RACES = "tests/concurrency/test_steps.py"
STEP_UPKEEP = "tests/unit/storage/test_upkeep_of_steps.py"

MUTANTS = (
    Mutant(
        "form-with-errors-as-an-outcome",
        (("doors/calls", "        _watch_forms(view)\n", "        pass\n"),),
        (FORMS,),
    ),
    Mutant(
        "no-fence",
        (("storage/statements", "id = %(id)s AND token = %(owner)s", "id = %(id)s"),),
        (CLAIMS,),
    ),
    Mutant(
        "no-row-lock",
        (
            (
                "protocol/claims",
                "        if not self.is_locked:\n            return\n",
                "        return\n",
            ),
        ),
        (KILLS, ORDERS),
    ),
    Mutant(
        "completion-in-its-own-commit",
        (
            (
                "engine/attempts",
                "                if fate is not Verdict.ROLL_BACK:\n"
                "                    self.phase = Phase.SAVE\n"
                "                    self._settle(response, fate, last=not others)\n"
                "                self.phase = Phase.COMMIT\n",
                "                self.phase = Phase.COMMIT\n"
                "        if fate is not Verdict.ROLL_BACK:\n"
                "            self._settle(response, fate)\n",
            ),
        ),
        (KILLS,),
    ),
    Mutant(
        "counter-as-token",
        (
            (
                "protocol/claims",
                "Terms(uuid.uuid4(), plan.attempts,",
                "Terms(uuid.UUID(int=plan.attempts), plan.attempts,",
            ),
        ),
        (ORDERS, CLAIMS),
    ),
    Mutant(
        "retention-by-the-app-clock",
        (
            ("storage/statements", 'd.later.format("life")', '"%(app_clock)s"'),
            (
                "storage/records",
                '            "life": ',
                '            "app_clock": timezone.now() + terms.lease + terms.retention,\n'
                '            "life": ',
            ),
            (
                "storage/records",
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
                "storage/statements",
                'error = %(error)s", GUARD)',
                "error = %(error)s, response_status = NULL, response_headers = NULL,"
                ' response_body = NULL, completed_at = NULL", _OWNED)',
            ),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "late-release-that-waits",
        (
            (
                "storage/dialects/postgresql",
                "{condition} FOR NO KEY UPDATE SKIP LOCKED)",
                "{condition})",
            ),
        ),
        (ORDERS, KILLS),
    ),
    Mutant(
        "takeover-without-grace",
        (("protocol/rules", "return found.touched or found.age >= grace", "return True"),),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "grace-without-doubling",
        (("protocol/rules", "grace * 2.0 ** (found.attempts - 1)", "grace"),),
        (ORDERS,),
    ),
    Mutant(
        "locked-taken-for-lost",
        (
            (
                "engine/attempts",
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
                "storage/dialects/postgresql",
                '        "(SELECT ctid FROM {table} WHERE {condition} LIMIT %(limit)s'
                ' FOR UPDATE SKIP LOCKED))"\n        " AND {condition}"\n',
                '        "(SELECT ctid FROM {table} WHERE {condition} LIMIT %(limit)s))"\n',
            ),
        ),
        (ORDERS,),
    ),
    Mutant(
        "expired-before-status",
        (
            (
                "protocol/rules",
                "found.status is Status.IN_PROGRESS or not found.expired",
                "not found.expired",
            ),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "save-before-render",
        (("doors/calls", "lambda: _rendered(handler())", "lambda: handler()"),),
        ("tests/contract/test_replays.py",),
    ),
    Mutant(
        "no-rowcount-check",
        (
            (
                "storage/records",
                "texts.complete_marked if locked else texts.complete, params) == 1",
                "texts.complete, params) >= 0",
            ),
            (
                "storage/records",
                "texts.release_marked if locked else texts.release, params) == 1",
                "texts.release, params) >= 0",
            ),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "commit-without-its-fence",
        (("storage/dialects/postgresql", "WIDTH_BUCKET(0, 0, 1, COUNT(*)::integer)", "COUNT(*)"),),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "raised-commit-taken-for-rolled-back",
        (
            (
                "engine/recovery",
                "        Freed.NO: Answer.ASK_THE_RECORD,\n        Freed.UNKNOWN",
                "        Freed.NO: Answer.RAISE,\n        Freed.UNKNOWN",
            ),
        ),
        (KILLS,),
    ),
    Mutant(
        "lost-claim-runs-on",
        (
            (
                "protocol/claims",
                '            raise TransitionError("taken over before the view began")\n',
                "            return\n",
            ),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "claims-in-the-view-s-transaction-never-flush",
        (
            ("storage/records", "        if joined:\n", "        if False:\n"),
            ("storage/records", "unflushed = terms.atomic and not joined", "unflushed = True"),
        ),
        (CLAIMS, ORDERS),
    ),
    Mutant(
        "record-read-from-the-replica",
        (("engine/execution", "router.db_for_write", "router.db_for_read"),),
        ("tests/faults/test_replicas.py",),
    ),
    Mutant(
        "waiters-on-the-row",
        (
            (
                "storage/dialects/postgresql",
                'watch_text = "SELECT pg_advisory_xact_lock_shared({lock})"',
                "watch_text = \"SELECT 1 FROM {table} WHERE id = '{id}' FOR SHARE\"",
            ),
        ),
        (WAITING,),
    ),
    Mutant(
        "waiters-are-counted-for-ever",
        (("protocol/waiting", "self._waiting -= 1", "pass"),),
        (WAITING,),
    ),
    Mutant(
        "unlimited-waiters",
        (("protocol/waiting", "if self._waiting >= limit:", "if False:"),),
        (WAITING,),
    ),
    Mutant(
        "serialization-failure-is-an-error",
        (("storage/dialects/postgresql", 'in ("23505", "40001")', 'in ("23505",)'),),
        (ORDERS, "tests/faults"),
    ),
    Mutant(
        "no-mark",
        (("storage/statements", 'f" AND {_BEGUN}" if d.marks else ""', '""'),),
        ("tests/faults/test_deadlocks.py",),
        "mariadb",
    ),
    Mutant(
        "clock-of-the-server-s-zone",
        (("storage/dialects/mysql", 'now = "UTC_TIMESTAMP(6)"', 'now = "NOW(6)"'),),
        ("tests/faults/test_clocks.py",),
        "mariadb",
    ),
    Mutant(
        "insert-that-waits",
        (("storage/dialects/mysql", "SET STATEMENT innodb_lock_wait_timeout=0 FOR ", ""),),
        (ORDERS, "tests/faults"),
        "mariadb",
    ),
    Mutant(
        "cleans-up-the-running",
        (
            (
                "storage/upkeep",
                'over = f"expires_at <= {dialect.now} AND status <> {RUNNING}"',
                'over = f"expires_at <= {dialect.now}"',
            ),
        ),
        ("tests/unit/management/test_cleanup_idempotency.py", "tests/unit/admin"),
    ),
    Mutant(
        "erased-key-runs-as-another",
        (("protocol/rules", "    if not found.fingerprint:\n        raise KeyErasedError\n", ""),),
        ("tests/unit/management/test_idempotency_erase.py",),
    ),
    Mutant(
        "frees-the-living-by-hand",
        (
            (
                "storage/upkeep",
                "if self._is_alive(found):\n            return False\n        params = ",
                "params = ",
            ),
            ("maintenance/records", "if not seems_dead(found, store.dialect.grace):", "if False:"),
            ("storage/dialects/postgresql", " FOR NO KEY UPDATE SKIP LOCKED)", ")"),
        ),
        ("tests/unit/admin", "tests/unit/management/test_idempotency_release.py"),
    ),
    Mutant(
        "tells-before-it-is-so",
        (("monitoring/events", "    elif event.kind in _ONLY_READ:", "    elif True:"),),
        ("tests/unit/monitoring/test_events.py",),
    ),
    Mutant(
        "step-without-a-beat",
        (
            (
                "durable/checkpoints",
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
                "storage/steps",
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
                "storage/steps",
                'f"{GUARD} AND error = %(mark)s" if dialect.marks else GUARD',
                "GUARD",
            ),
        ),
        (STEP_RACES, CHECKPOINTS),
        "mariadb",
    ),
    Mutant(
        "no-mark-on-a-failed-step",
        (("storage/steps", "self._change(marked)", "self._change(GUARD)"),),
        (STEP_RACES, CHECKPOINTS),
        "mariadb",
    ),
    Mutant(
        "one-mark-for-all-transactions-of-a-step",
        (("durable/checkpoints", 'f"step {uuid.uuid4().hex[:12]} {name}"', 'f"step {name}"'),),
        (STEP_RACES, CHECKPOINTS),
        "mariadb",
    ),
    Mutant(
        "late-note-undoes-a-step",
        (("storage/steps", 'f" AND status NOT IN ({_OVER})"', '""'),),
        (CHECKPOINTS,),
    ),
    Mutant(
        "step-changed-by-a-stranger",
        (("storage/steps", 'f" AND EXISTS (SELECT 1 FROM {self._table} WHERE {guard})"', '""'),),
        (CHECKPOINTS,),
    ),
    Mutant(
        "checkpoint-in-its-own-commit",
        (
            (
                "durable/steps",
                "                self._checkpoints.write(entry, mark=mark)\n"
                "        self._remember(step, entry, block.result)\n",
                "            self._checkpoints.record(entry)\n"
                "        self._remember(step, entry, block.result)\n",
            ),
        ),
        (CHECKPOINTS, STEPS),
    ),
    Mutant(
        "first-attempt-loads-its-steps",
        (("durable/checkpoints", "= {} if is_first else None", "= None"),),
        (CHECKPOINTS,),
    ),
    Mutant(
        "rolled-back-step-without-a-key-is-done",
        (("durable/checkpoints", "        if is_doomed(self._using):", "        if False:"),),
        (STEPS,),
    ),
    Mutant(
        "first-result-as-it-was-returned",
        (("durable/steps", "json.loads(text)", "result"),),
        ("tests/unit/durable/test_definitions.py",),
    ),
    Mutant(
        "recycling-keeps-steps",
        (
            (
                "storage/records",
                "(self._texts.delete_steps, self._texts.delete_envelope) if other else ()",
                "()",
            ),
        ),
        (STEPS, STEP_RACES),
    ),
    Mutant(
        "other-request-goes-on-with-the-steps-of-the-first",
        (
            (
                "protocol/rules",
                "not left_nothing or parts.is_unfinished(intent.id)",
                "not left_nothing",
            ),
        ),
        (STEPS,),
    ),
    Mutant(
        "downstream-key-with-the-attempt-in-it",
        (
            (
                "durable/steps",
                "downstream_key(intent, step.oldest_name)",
                'downstream_key(intent, f"{step.oldest_name} {self._checkpoints._claim.terms}")',
            ),
        ),
        (CALLS,),
    ),
    Mutant(
        "downstream-key-of-the-newest-name",
        (("durable/steps", "step.oldest_name", "step.name"),),
        (CALLS,),
    ),
    Mutant(
        "call-inside-a-transaction",
        (("durable/steps", "        self._refuse_transaction(step)\n", ""),),
        (STEPS,),
    ),
    Mutant(
        "lease-does-not-cover-the-call",
        (
            (
                "durable/checkpoints",
                "            self.beat(duration)\n",
                "            self.beat()\n",
            ),
        ),
        (CHECKPOINTS,),
    ),
    Mutant(
        "lost-claim-makes-calls",
        (("durable/checkpoints", "if self._lost or age + duration >", "if age + duration >"),),
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
        ("tests/unit/test_retry.py",),
    ),
    Mutant(
        "undos-in-the-order-of-their-steps",
        (
            ("durable/steps", "self._done[-1]", "self._done[0]"),
            ("durable/steps", "self._done.pop()", "self._done.pop(0)"),
        ),
        (UNDOS,),
    ),
    Mutant(
        "failure-is-recorded-after-the-undos",
        (
            (
                "durable/steps",
                "        self._checkpoints.record(run.entry(StepStatus.FAILED, error=name))\n"
                "        self._undo()\n",
                "        self._undo()\n"
                "        self._checkpoints.record(run.entry(StepStatus.FAILED, error=name))\n",
            ),
        ),
        (UNDOS,),
    ),
    Mutant(
        "started-is-not-written-first",
        (
            (
                "durable/steps",
                "        self._checkpoints.record(started, run.step.timeout or timedelta())\n",
                "",
            ),
        ),
        (ONCE,),
    ),
    Mutant(
        "call-in-doubt-is-made-again",
        (
            (
                "durable/steps",
                "_IN_DOUBT = (StepStatus.STARTED, StepStatus.UNKNOWN)",
                "_IN_DOUBT = ()",
            ),
        ),
        (ONCE,),
    ),
    Mutant(
        "request-outlives-its-operation",
        (
            (
                "engine/attempts",
                "        if self.policy.keeps_request:\n            self.claim.delete_envelope()\n",
                "",
            ),
        ),
        (ENVELOPES,),
    ),
    Mutant(
        "request-deleted-in-a-commit-of-its-own",
        (
            (
                "engine/attempts",
                "transaction.atomic(using=self.alias) if has_envelope else nullcontext()",
                "nullcontext()",
            ),
        ),
        (ENVELOPES,),
    ),
    Mutant(
        "credentials-are-stored",
        (
            (
                "durable/envelopes",
                '"HTTP_HOST", ',
                '"HTTP_HOST", "HTTP_AUTHORIZATION", "HTTP_COOKIE", ',
            ),
        ),
        (ENVELOPES,),
    ),
    Mutant(
        "completer-without-compare-and-set",
        (
            (
                "durable/completer",
                "filter(pk=row.pk, tries=row.tries)\n    return",
                "filter(pk=row.pk)\n    return",
            ),
        ),
        (COMPLETER,),
    ),
    Mutant(
        "completer-for-who-may-not-log-in",
        (("durable/completer", "or not user.is_active or", "or"),),
        (COMPLETER,),
    ),
    Mutant(
        "completer-that-begins-anew",
        (
            (
                "protocol/rules",
                "    if intent.is_resumed:\n        raise KeyErasedError\n",
                "",
            ),
        ),
        (COMPLETER,),
    ),
    Mutant(
        "unfinished-operation-expires",
        (
            (
                "protocol/rules",
                " or not found.expired or intent.is_resumed:",
                " or not found.expired:",
            ),
            ("protocol/rules", " or not parts.has_envelope(intent.id)", " or True"),
        ),
        (COMPLETER,),
    ),
    Mutant(
        "who-was-fenced-off-throws-the-request-away",
        (
            (
                "durable/completer",
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
                "storage/upkeep",
                "f\"(status = '{Status.COMPLETED.value}' OR NOT {self._has(self._envelopes)})\"",
                '"TRUE"',
            ),
        ),
        (STEP_UPKEEP,),
    ),
    Mutant(
        "clean-up-leaves-orphans",
        (
            (
                "storage/upkeep",
                'f"NOT {self._has(self._steps)} AND NOT {self._has(self._envelopes)}"',
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
    parser = argparse.ArgumentParser(prog="python -m tests.support.mutants", description=__doc__)
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
