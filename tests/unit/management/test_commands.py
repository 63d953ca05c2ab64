"""What the commands have in common: their help, and what they refuse."""

import pytest
from django.core.management import CommandError

from . import SCOPE, count, in_a_shell, make, run

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

COMMANDS = [
    "cleanup_idempotency",
    "idempotency_status",
    "idempotency_release",
    "idempotency_erase",
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_options_and_exit_codes(command: str) -> None:
    """Those that change something can also only say what they would do."""
    shown = in_a_shell(command, "--help")
    assert shown.returncode == 0
    assert {"--database", "--format"} <= set(shown.stdout.replace(",", " ").split())
    assert ("--dry-run" in shown.stdout) == (command != "idempotency_status")
    assert "exit codes:\n  0  done\n  1  " in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["cleanup_idempotency", "--database", "nowhere"],
        ["cleanup_idempotency", "--batch-size", "0"],
        ["cleanup_idempotency", "--limit", "-1"],
        ["cleanup_idempotency", "--older-than", "soon"],
        ["cleanup_idempotency", "--sleep", "-1"],
        ["idempotency_status", "--fail-if-stale", "0"],
        ["idempotency_status", "--format", "xml"],
        ["idempotency_release", "key"],
        ["idempotency_release", "", "--scope", SCOPE],
        ["idempotency_erase"],
        ["idempotency_erase", "--scope", ""],
    ],
    ids=" ".join,
)
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    """With a clear error, before anything is done."""
    make()
    with pytest.raises(CommandError, match="Error: "):
        run(*arguments)
    assert count() == 1


@pytest.mark.slow
def test_bad_argument_exits_with_2() -> None:
    """On the command line, with the usage."""
    refused = in_a_shell("cleanup_idempotency", "--batch-size", "none")
    assert refused.returncode == 2
    assert "'none' is not a whole number from 1" in refused.stderr
