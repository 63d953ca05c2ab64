"""Builds every statement without a connection: it takes the quoting of names, and the dialect."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.db.backends.mysql.operations import DatabaseOperations as MySQLOperations
from django.db.backends.postgresql.operations import DatabaseOperations as PostgreSQLOperations
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite

from django_idempotency.storage.dialects import DIALECTS, Dialect
from django_idempotency.storage.statements import Texts, Words
from django_idempotency.storage.steps import StepTexts
from django_idempotency.storage.upkeep import UpkeepTexts

from .layout import laid_out

_OPERATIONS: dict[str, Any] = {
    "postgresql": PostgreSQLOperations,
    "mariadb": MySQLOperations,
    "mysql": MySQLOperations,
    # Its module of operations cannot be imported first.
    "sqlite": SQLite.ops_class,
}

#: What each statement is for, by the class and the attribute that hold it.
PURPOSES: dict[type[Words] | type[Dialect], dict[str, str]] = {
    Texts: {
        "insert": "Claim a key whose record has not been found.",
        "claim_joined": "Claim a key in the caller's transaction, and read what was there.",
        "claim": "Claim a key, read what was there, and probe its owner's lock.",
        "claim_unflushed": "The same for an atomic view, whose COMMIT flushes for both.",
        "claim_prepared": "The same as one statement, which can be prepared.",
        "claim_prepared_unflushed": "That one for an atomic view.",
        "heartbeat": "The view's transaction locks the row; it waits for a lock.",
        "heartbeat_nowait": "The same; it fails where the row is locked.",
        "read": "Read a record.",
        "complete": "Save the response, where the attempt does not hold the row.",
        "complete_marked": "Save the response, where the attempt holds the row.",
        "complete_fenced": "The same, sent together with COMMIT: it fails if the claim is lost.",
        "release": "Free the key of an attempt that was no outcome, beside its writes.",
        "release_marked": "The same, where the attempt holds the row.",
        "release_fenced": "The same, sent together with COMMIT.",
        "release_late": "Free the key after a rollback.",
        "take": "Take over a record that was released, has expired, or whose owner is dead.",
        "delete_steps": "Delete the steps of a record that another request takes over.",
        "delete_envelope": "Delete the stored request: it is finished, or another takes over.",
        "has_envelope": "Ask whether a completer may finish the operation.",
        "is_unfinished": "Ask whether an operation has begun that can be finished.",
        "watch": "Wait until the owner's transaction has ended. {...} are values, too.",
    },
    StepTexts: {
        "load": "Read all steps of an operation.",
        "beat": "Lock the row for a checkpoint and extend the lease; it waits for a lock.",
        "beat_nowait": "The same; it fails where the row is locked.",
        "add": "Record a step, if the claim is still the owner's.",
        "add_marked": "The same in a transaction that began with a beat.",
        "change": "Record what became of a step that is not over.",
        "change_marked": "The same in a transaction that began with a beat.",
    },
    UpkeepTexts: {
        "expire": "Let a finished record expire.",
        "free": "Release a record whose owner is dead.",
        "delete": "Delete one record that has expired.",
        "delete_parts": "Delete its steps and its stored request, before that.",
        "moment": "The database's time so long ago.",
        "edge": "Where a window of expired records ends.",
        "purge": "Delete the records of a window that have no parts any more.",
        "purge_parts": "Delete the parts of a window's records, before that.",
        "has_parts": "Ask whether any operation has steps or a stored request.",
        "purge_bare": "Delete the records of a window, if no operation has any parts.",
        "abandoned": "Count the records of a window whose lease is over.",
        "purge_counts": "Delete old counts.",
        "scope_edge": "Where a window of one caller's records ends.",
        "ids_of": "The ids of such a window.",
        "scope_parts": "Delete the parts of a caller's records, before the next two.",
        "erase_scope": "Erase all personal data of a caller's records.",
        "delete_scope": "Delete a caller's records.",
    },
    Dialect: {
        "probe": "Ask whether the owner's transaction has ended, without touching the row.",
        "unflushed": "The first statement of a clean-up's transaction.",
        "read_lock_wait": "Read for how long a statement waits for a lock.",
        "set_lock_wait": "Set that.",
        "set_isolation": "The first statement of a transaction that needs another level.",
        "table_bytes": "The size of the table with its indexes, for the dashboard.",
        "estimate": "How many records of each status there are, for the dashboard.",
    },
}


def built(vendor: str) -> dict[str, dict[str, str | tuple[str, ...]]]:
    """Every statement of the package for one database, by the class that holds it."""
    dialect = DIALECTS[vendor]()
    quote: Callable[[str], str] = _OPERATIONS[vendor](connection=None).quote_name
    found = {}
    for kind in (Texts, StepTexts, UpkeepTexts):
        texts = vars(kind(dialect, quote))
        found[kind.__name__] = {name: texts[name] for name in texts if not name.startswith("_")}
    whole = PURPOSES[Dialect]
    found["Dialect"] = {name: getattr(dialect, name, "") for name in whole}
    return found


def _statements(texts: dict[str, str | tuple[str, ...]], purposes: dict[str, str]) -> Iterator[str]:
    seen: dict[str | tuple[str, ...], str] = {}
    for name, text in texts.items():
        heading = f"-- {name}: {purposes[name]}\n"
        if not text:
            yield f"{heading}-- This database has none.\n"
        elif text in seen:
            yield f"{heading}-- Here the same as {seen[text]}.\n"
        else:
            seen[text] = name
            parts = text if isinstance(text, tuple) else (text,)
            yield heading + "".join(f"{laid_out(part)};\n" for part in parts)


def golden(vendor: str) -> str:
    """The content of a database's file."""
    sections = [f"-- Every statement of django_idempotency on {DIALECTS[vendor].__name__}.\n"]
    found = built(vendor)
    for kind, purposes in PURPOSES.items():
        sections.append(f"-- {kind.__module__}.{kind.__name__}\n-- {'-' * 90}\n")
        sections += _statements(found[kind.__name__], purposes)
    return "\n".join(sections)


def file_of(vendor: str) -> Path:
    """Where it lies."""
    return Path(__file__).with_name(f"{vendor}.sql")
