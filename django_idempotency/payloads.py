"""What steps take and give, as JSON: digests of arguments, and results that come back the same.

A result is handed on as it will be read from the record, so that the first attempt and every later
one see the same value.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from . import conf
from .codecs import decode, encode


class _Arguments(DjangoJSONEncoder):
    """Instances of models by what names them."""

    def default(self, o: Any) -> Any:
        if isinstance(o, Model):
            return {"model": o._meta.label, "pk": o.pk}
        return super().default(o)


def digest_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """The SHA-256 of a step's arguments; raises TypeError for what JSON cannot hold."""
    try:
        text = json.dumps([args, kwargs], cls=_Arguments, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"step {name!r}: arguments must be JSON or instances of models ({error}); hand over"
            " what names them, and let the function look them up"
        ) from error
    return hashlib.sha256(text.encode()).digest()


def written(name: str, result: Any) -> bytes:
    """A step's result as JSON; raises TypeError, and ValueError where it is too long."""
    try:
        text = json.dumps(result, cls=DjangoJSONEncoder, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TypeError(f"step {name!r}: its result must be JSON ({error})") from error
    limit, size = conf.max_step_bytes(), len(text.encode())
    if size > limit:
        raise ValueError(
            f"step {name!r}: its result has {size} bytes, and IDEMPOTENCY_MAX_STEP_BYTES is"
            f" {limit}; return what names it"
        )
    return text.encode()


def read(text: bytes) -> Any:
    """The result of that JSON."""
    return json.loads(text)


def stored(text: bytes) -> tuple[bytes, str]:
    """That JSON as it lies in the table, and the names of what it was encoded with."""
    return encode(text)


def recalled(output: bytes | None, codec: str) -> Any:
    """The result of a recorded step; raises UndecodableError."""
    return None if output is None else read(decode(output, codec))
