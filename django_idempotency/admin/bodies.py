"""Stored bodies as plain text; the template escapes it, so nothing in a body runs or loads."""

import json
from dataclasses import dataclass

from django.utils.datastructures import CaseInsensitiveMapping
from django.utils.translation import gettext_lazy as _

from ..codecs import UndecodableError, decode
from ..storage.values import StoredResponse
from .standing import Text

# A page with more of it would be slow, and hardly read.
_LONGEST_TEXT = 100_000
# An operation may have many steps.
_LONGEST_OUTPUT = 10_000
_HEAD_BYTES = 256
_ROW_BYTES = 16
_BLANKS = frozenset("\t\n\r")
_JSON = [("Content-Type", "application/json")]


@dataclass(frozen=True, slots=True)
class Body:
    """The text to show, with a note on what it is, and the size of the whole."""

    note: Text
    text: str = ""
    size: int | None = None
    is_cut: bool = False


def _hex(data: bytes) -> str:
    rows = (data[i : i + _ROW_BYTES] for i in range(0, min(len(data), _HEAD_BYTES), _ROW_BYTES))
    return "\n".join(f"{i * _ROW_BYTES:04x}  {row.hex(' ')}" for i, row in enumerate(rows))


def _readable(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    is_plain = all(sign.isprintable() or sign in _BLANKS for sign in text)
    return text if is_plain else None


def _pretty(text: str) -> str | None:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    # A body may be nested deeper than Python can parse.
    except (ValueError, RecursionError):
        return None


def _is_json(stored: StoredResponse) -> bool:
    media_type = CaseInsensitiveMapping(stored.headers).get("Content-Type", "").partition(";")[0]
    return media_type.strip().lower().endswith("json")


def _binary(data: bytes) -> Body:
    note = _("Binary; its first %d bytes:") % min(len(data), _HEAD_BYTES)
    return Body(note, _hex(data), len(data), len(data) > _HEAD_BYTES)


def output_of(data: bytes, codec: str) -> Body:
    """A step's output as text for a page."""
    return body_of(StoredResponse(0, _JSON, data, codec), longest=_LONGEST_OUTPUT)


def body_of(stored: StoredResponse, *, longest: int = _LONGEST_TEXT) -> Body:
    """The body of a stored response as text for a page."""
    if stored.body is None:
        return Body(_("It was larger than the limit and is not stored."))
    try:
        sent = decode(stored.body, stored.codec)
    except UndecodableError:
        return Body(_("Stored encoded (%s).") % stored.codec, size=len(stored.body))
    text = _readable(sent)
    if text is None:
        return _binary(sent)
    pretty = _pretty(text) if _is_json(stored) else None
    shown = text if pretty is None else pretty
    note = _("Text") if pretty is None else _("JSON, indented")
    return Body(note, shown[:longest], len(sent), len(shown) > longest)
