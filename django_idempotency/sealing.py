"""Signed bytes for a cache that anybody may have written to: what does not verify was never there.

No pickle, and no key but the project's ``SECRET_KEY``; its fallbacks are honoured.
"""

import hashlib
import hmac
from functools import lru_cache

from django.conf import settings

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
