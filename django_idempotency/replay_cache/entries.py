"""What is written to the cache: entries and fences, signed because others may write there, too.

Bytes whose signature does not verify count as absent. There is no pickle, and no secret but the
project's ``SECRET_KEY``, whose fallbacks are honoured.
"""

import json
import struct
import time

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from ..storage.values import Intent, StoredResponse

_SIGNATURE_BYTES = 32
# The end, in seconds since the epoch; in an entry the length of its head follows.
_END, _END_AND_SIZE = struct.Struct("!d"), struct.Struct("!dI")


def _signature(secret: str | bytes, place: str, content: bytes) -> bytes:
    salt = f"django_idempotency.replay_cache:{place}:"
    return salted_hmac(salt, content, secret, algorithm="sha256").digest()


def seal(place: str, content: bytes) -> bytes:
    """``content`` behind a signature that verifies at this place only."""
    return _signature(settings.SECRET_KEY, place, content) + content


def unseal(place: str, sealed: bytes) -> bytes | None:
    """The content; None where the signature is not the project's, or belongs to another place."""
    signature, content = sealed[:_SIGNATURE_BYTES], sealed[_SIGNATURE_BYTES:]
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        if constant_time_compare(signature, _signature(secret, place, content)):
            return content
    return None


def packed_entry(marker: bytes, intent: Intent, response: StoredResponse, life: float) -> bytes:
    """A response with the marker and request that it belongs to; it ends after ``life`` seconds."""
    head = json.dumps([response.status, response.headers, response.codec]).encode()
    numbers = _END_AND_SIZE.pack(time.time() + life, len(head))
    return marker + intent.fingerprint + numbers + head + (response.body or b"")


def unpacked_entry(content: bytes, marker: bytes, intent: Intent) -> StoredResponse | None:
    """The response in an entry that has not ended, if it is of this marker and this request."""
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


def packed_fence(intent: Intent, life: float) -> bytes:
    """The request that runs; it ends after ``life`` seconds."""
    return _END.pack(time.time() + life) + intent.fingerprint


def is_fenced(content: bytes, intent: Intent) -> bool:
    """Whether a fence is for this request and has not ended."""
    if content[_END.size :] != intent.fingerprint:
        return False
    return time.time() < float(_END.unpack_from(content)[0])
