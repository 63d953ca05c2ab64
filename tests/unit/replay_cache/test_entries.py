"""What is written to the cache verifies at its own place only, with the project's keys only."""

import uuid
from typing import Any

import pytest
from pytest_django import Settings

from django_idempotency.replay_cache import entries
from django_idempotency.storage.values import Intent, StoredResponse
from tests.unit.replay_cache.test_replays import seconds_later

CONTENT = b"some content"
INTENT = Intent(uuid.UUID(int=1), "anonymous", "a-key", b"f" * 32, "POST", "/")
OTHER = Intent(uuid.UUID(int=1), "anonymous", "a-key", b"g" * 32, "POST", "/")


@pytest.mark.parametrize("secret", ["text", b"bytes"], ids=["text", "bytes"])
def test_sealed_content_is_unsealed_at_its_place(secret: Any, settings: Settings) -> None:
    """The signature verifies at no other place."""
    settings.SECRET_KEY = secret
    sealed = entries.seal("e:default:01", CONTENT)
    assert entries.unseal("e:default:01", sealed) == CONTENT
    for place in ("f:default:01", "e:default:02", "e:default:0", "e:default:01:", ""):
        assert entries.unseal(place, sealed) is None


def test_place_cannot_continue_in_the_content() -> None:
    """A longer place with less content has another signature."""
    sealed = entries.seal("e:default:0", b"1" + CONTENT)
    moved = sealed[:32] + CONTENT
    assert entries.unseal("e:default:01", moved) is None


@pytest.mark.parametrize("damaged", [b"", b"short", bytes(32), bytes(32) + CONTENT])
def test_bytes_without_a_signature_are_no_content(damaged: bytes) -> None:
    """Bytes of any length are refused."""
    assert entries.unseal("e:default:01", damaged) is None


def test_keys_rotate_with_fallbacks(settings: Settings) -> None:
    """The newest key signs; fallbacks still verify."""
    settings.SECRET_KEY = "old"
    old = entries.seal("e", CONTENT)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
    new = entries.seal("e", CONTENT)
    assert entries.unseal("e", old) == entries.unseal("e", new) == CONTENT
    settings.SECRET_KEY_FALLBACKS = []
    assert entries.unseal("e", old) is None
    assert entries.unseal("e", new) == CONTENT


@pytest.mark.parametrize("body", [b"cake", b""])
def test_entry_is_unpacked_for_its_marker_request_and_time(body: bytes) -> None:
    """Another marker, another request and a later time find nothing."""
    response = StoredResponse(201, [("X-Cake", "lemon"), ("X-Cake", "lime")], body, "gzip")
    content = entries.packed_entry(b"m" * 16, INTENT, response, 30)
    assert entries.unpacked_entry(content, b"m" * 16, INTENT) == response
    assert entries.unpacked_entry(content, b"n" * 16, INTENT) is None
    assert entries.unpacked_entry(content, b"m" * 16, OTHER) is None
    with seconds_later(30):
        assert entries.unpacked_entry(content, b"m" * 16, INTENT) is None


def test_fence_counts_for_its_request_and_time() -> None:
    """Another request and a later time are not fenced."""
    content = entries.packed_fence(INTENT, 1)
    assert entries.is_fenced(content, INTENT)
    assert not entries.is_fenced(content, OTHER)
    with seconds_later(1):
        assert not entries.is_fenced(content, INTENT)
