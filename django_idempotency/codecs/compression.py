"""Codecs that make bodies smaller: gzip, which Python has, and zstd, which is an extra before 3.14.

A body that would gain nothing stays as it is.
"""

import gzip
import sys
import zlib
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

try:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
except ImportError:  # an extra
    zstd = None  # type: ignore[assignment]

# Below this, gzip's frame of 18 bytes and its first symbols cost more than compression saves.
_SMALLEST_BYTES = 200
# A damaged or planted body must not fill the memory. A larger body is stored as it is, so that
# everything that was stored can be read.
_LARGEST_BYTES = 256 * 1024 * 1024
# Level 9, gzip's own default, takes several times as long and saves one percent.
_GZIP_LEVEL = 6


def _if_smaller(body: bytes, compress: Callable[[bytes], bytes]) -> bytes:
    if not _SMALLEST_BYTES <= len(body) <= _LARGEST_BYTES:
        return body
    compressed = compress(body)
    return compressed if len(compressed) < len(body) else body


def _whole(decompressor: Any, body: bytes) -> bytes:
    plain: bytes = decompressor.decompress(body, _LARGEST_BYTES + 1)
    if len(plain) > _LARGEST_BYTES or not decompressor.eof:
        raise ValueError(f"the body is cut off, or larger than {_LARGEST_BYTES} bytes")
    return plain


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)


def _zstd(body: bytes) -> bytes:
    # Without this flag zstd writes no check sum, and a damaged body would be replayed.
    return zstd.compress(body, options={zstd.CompressionParameter.checksum_flag: 1})


class GzipCodec:
    """gzip (RFC 1952)."""

    name = "gzip"

    def encode(self, body: bytes) -> bytes:
        return _if_smaller(body, _gzip)

    def decode(self, body: bytes) -> bytes:
        """The body before compression; raises zlib.error or ValueError."""
        return _whole(zlib.decompressobj(16 + zlib.MAX_WBITS), body)


class ZstdCodec:
    """Zstandard (RFC 8878), which is faster than gzip, and its results are smaller."""

    name = "zstd"

    def __init__(self) -> None:
        if zstd is None:
            raise ImproperlyConfigured('zstd needs pip install "django-idempotency[zstd]".')

    def encode(self, body: bytes) -> bytes:
        return _if_smaller(body, _zstd)

    def decode(self, body: bytes) -> bytes:
        """The body before compression; raises ZstdError or ValueError."""
        return _whole(zstd.ZstdDecompressor(), body)
