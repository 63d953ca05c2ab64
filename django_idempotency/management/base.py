"""What the commands share: the database they work on, and answers for people and for programs."""

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
    """``90s``, ``15m``, ``12h``, ``7d`` or ``2w``; a bare number is seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is none of 90s, 15m, 12h, 7d, 2w")
    return timedelta(**{_UNITS[found[2] or "s"]: float(found[1])})


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def name(text: str) -> str:
    """Anything but nothing."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


class _HelpFormatter(DjangoHelpFormatter):
    """Keeps the lines of what has lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class RecordsCommand(BaseCommand):
    """A command for the records of one database; ``codes`` says what its exit codes mean."""

    codes: Mapping[int, str] = {}
    changes = True

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """The exit codes stand at the end of ``--help``."""
        codes = {0: "done", **self.codes, 2: "wrong arguments"}
        lines = [f"  {code}  {codes[code]}" for code in sorted(codes)]
        kwargs |= {"epilog": "\n".join(["exit codes:", *lines]), "formatter_class": _HelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Database and format, and whether to change anything."""
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
        """Write ``text``, or the facts as JSON."""
        if options["format"] == "json":
            facts = {"database": options["database"], **facts}
            text = json.dumps(facts, indent=2)
        self.stdout.write(text)
