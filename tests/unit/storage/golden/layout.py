"""SQL on several lines: nothing but the white space between its words is changed."""

import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise

_WIDTH = 98
_INDENT = "    "
_TOKEN = re.compile(
    r"(?P<quoted>'[^']*'|\"[^\"]*\"|`[^`]*`|%\(\w+\)s)"
    r"|(?P<opens>\(|\bCASE\b)|(?P<closes>\)|\bEND\b)"
    r"|(?P<clause>\b(?:SELECT|INSERT INTO|DELETE(?: FROM)?|FROM|WHERE|AND|SET|VALUES"
    r"|LEFT JOIN|STRAIGHT_JOIN|ON CONFLICT|RETURNING|ORDER BY|LIMIT"
    r"|FOR (?:NO KEY )?UPDATE|UPDATE)\b)"
    r"|(?P<comma>,)|(?P<semicolon>;)"
)
_SUBQUERY = re.compile(r"\((?=SELECT|INSERT|UPDATE)")
_CASE_PARTS = re.compile(r" (?=THEN |ELSE )")
#: Clauses whose list has one item a line.
_LISTED = ("SELECT ", "SET ")


def _outside(text: str, kind: str) -> Iterator[int]:
    """Where the tokens of a kind begin that stand in no parentheses and in no CASE."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if not depth and token.lastgroup == kind:
            yield token.start()
        depth += (token.lastgroup == "opens") - (token.lastgroup == "closes")


def _end(text: str, start: int) -> int:
    """Where the parenthesis is closed that is opened at ``start``."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += (token.lastgroup == "opens") - (token.lastgroup == "closes")
        if not depth:
            return token.start()
    raise ValueError(text)


def _split(text: str, places: Iterator[int]) -> list[str]:
    bounds = [0, *places, len(text)]
    parts = (text[i:j].strip() for i, j in pairwise(bounds))
    return [part for part in parts if part]


def _query(text: str, indent: str) -> Iterator[str]:
    for clause in _split(text, _outside(text, "clause")):
        yield from _clause(clause, indent + "  " * clause.startswith("AND "))


def _clause(clause: str, indent: str) -> Iterator[str]:
    if len(indent + clause) <= _WIDTH:
        yield indent + clause
    elif subquery := _SUBQUERY.search(clause):
        end = _end(clause, subquery.start())
        yield indent + clause[: subquery.end()]
        yield from _query(clause[subquery.end() : end], indent + _INDENT)
        yield from _clause(clause[end:], indent)
    elif clause.startswith(_LISTED):
        word, items = clause.split(" ", 1)
        yield indent + word
        for item in _split(items, (comma + 1 for comma in _outside(items, "comma"))):
            yield from _filled(item, indent + _INDENT)
    else:
        yield from _filled(clause, indent)


def _filled(text: str, indent: str) -> Iterator[str]:
    if len(indent + text) <= _WIDTH:
        yield indent + text
        return
    wrapper = textwrap.TextWrapper(
        _WIDTH, subsequent_indent=indent + _INDENT, break_long_words=False, break_on_hyphens=False
    )
    for part in _CASE_PARTS.split(text):
        wrapper.initial_indent = indent + "  " * part.startswith(("THEN ", "ELSE "))
        yield from wrapper.wrap(part)


def laid_out(text: str) -> str:
    """One clause a line, and one statement after another."""
    statements = _split(text, (place + 1 for place in _outside(text, "semicolon")))
    return "\n".join(line for statement in statements for line in _query(statement, ""))
