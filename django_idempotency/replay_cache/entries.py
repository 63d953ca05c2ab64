"""Signed bytes for a cache that anybody may have written to: what does not verify was never there.

No pickle, and no key but the project's ``SECRET_KEY``; its fallbacks are honoured.
"""

import hashlib
import hmac
import json
import struct
import time
from functools import lru_cache

from django.conf import settings

from ..storage.values import Intent, StoredResponse

_SALT = b"django_idempotency.cache"
_SIGNATURE_BYTES = 32


@lru_cache(maxsize=16)
def _key(secret: str | bytes) -> bytes:
    raw = secret.encode() if isinstance(secret, str) else secret
    return hashlib.sha256(_SALT + raw).digest()


def _signature(secret: str | bytes, name: str, content: bytes) -> bytes:
    head = len(name).to_bytes(2, "big") + name.encode()
    return hmac.digest(_key(secret), head + content, "sha256")


def seal(name: str, content: bytes) -> bytes:
    """``content`` with a signature that is good under this ``name`` only."""
    return _signature(settings.SECRET_KEY, name, content) + content


def unseal(name: str, sealed: bytes) -> bytes | None:
    """The content, or None where its signature is not ours or belongs elsewhere."""
    signature, content = sealed[:_SIGNATURE_BYTES], sealed[_SIGNATURE_BYTES:]
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        if hmac.compare_digest(signature, _signature(secret, name, content)):
            return content
    return None


# When it ends, in seconds since the epoch, and how long the head of an entry is.
_END, _END_AND_SIZE = struct.Struct("!d"), struct.Struct("!dI")


def _packed(marker: bytes, intent: Intent, response: StoredResponse, life: float) -> bytes:
    head = json.dumps([response.status, response.headers, response.codec]).encode()
    numbers = _END_AND_SIZE.pack(time.time() + life, len(head))
    return marker + intent.fingerprint + numbers + head + (response.body or b"")


def _unpacked(content: bytes, marker: bytes, intent: Intent) -> StoredResponse | None:
    """The response in an entry that has not ended, if it is of this marker and of this request."""
    own = marker + intent.fingerprint
    if not content.startswith(own):
        return None
    end, size = _END_AND_SIZE.unpack_from(content, len(own))
    if time.time() >= end:
        return None
    start = len(own) + _END_AND_SIZE.size
    status, headers, codec = json.loads(content[start : start + size])
    pairs = [(name, value) for name, value in headers]
    return StoredResponse(status, pairs, content[start + size :], codec)
