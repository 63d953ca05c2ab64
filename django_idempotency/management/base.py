"""What the commands share: the database option, types of arguments, and answers in text or JSON."""

import argparse
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter
from django.db import connections, router

from django_idempotency.models import IdempotencyRecord

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """The duration in ``90s``, ``15m``, ``12h``, ``7d`` or ``2w``; a bare number means seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is none of 90s, 15m, 12h, 7d, 2w")
    return timedelta(**{_UNITS[found[2] or "s"]: float(found[1])})


def positive(text: str) -> int:
    """The whole number in an argument, which must be 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def name(text: str) -> str:
    """The argument itself, which must not be empty."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


class _HelpFormatter(DjangoHelpFormatter):
    """Keeps the line breaks of texts that have several lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class RecordsCommand(BaseCommand):
    """A command for the records of one database; ``codes`` explains its exit codes."""

    codes: Mapping[int, str] = {}
    changes = True

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """A parser whose ``--help`` ends with the exit codes."""
        codes = {0: "done", **self.codes, 2: "wrong arguments"}
        lines = [f"  {code}  {codes[code]}" for code in sorted(codes)]
        kwargs |= {"epilog": "\n".join(["exit codes:", *lines]), "formatter_class": _HelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--database``, ``--format`` and, for commands that change records, ``--dry-run``."""
        default = router.db_for_write(IdempotencyRecord)
        parser.add_argument(
            "--database",
            default=default,
            choices=tuple(connections),
            help=f"whose records; default: {default}",
        )
        parser.add_argument(
            "--format", choices=("text", "json"), default="text", help="default: text"
        )
        if self.changes:
            parser.add_argument("--dry-run", action="store_true", help="say what would be done")

    def answer(self, text: str, options: Mapping[str, Any], **facts: Any) -> None:
        """Write ``text``, or the facts as JSON, as ``--format`` says."""
        if options["format"] == "json":
            facts = {"database": options["database"], **facts}
            text = json.dumps(facts, indent=2)
        self.stdout.write(text)
