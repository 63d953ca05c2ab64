"""Bodies are stored compressed or encrypted; a replay sends the first body, or fails."""

import gzip
import logging
import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from pytest_django import Settings

from django_idempotency import codecs
from django_idempotency.admin.bodies import body_of
from django_idempotency.checks import settings as checks
from django_idempotency.codecs import UndecodableError, compression
from django_idempotency.codecs.encryption import FernetCodec
from django_idempotency.decorators import idempotent
from django_idempotency.http.responses import decoded, encoded
from django_idempotency.models import IdempotencyRecord
from django_idempotency.storage.values import StoredResponse
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import served
from tests.app.urls import urlpatterns as app_urls
from tests.conftest import Post

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls(__name__),
]

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
DOORS = served("/function/", "/mixin/")
CARD = "4242-4242-4242-4242"
TEXT = f"{CARD} ".encode() * 100
CHAINS = {
    "gzip": "gzip",
    "zstd": "zstd",
    "fernet": "fernet",
    "gzip+fernet": ["gzip", "fernet"],
    "zstd+fernet": ["django_idempotency.codecs.compression.ZstdCodec", "fernet"],
    "reversed": "tests.unit.codecs.test_codecs.ReversedCodec",
    "gzip+reversed": ["gzip", "tests.unit.codecs.test_codecs.reversed_codec"],
}


class ReversedCodec:
    """A codec of the project's own."""

    name = "reversed"

    def encode(self, body: bytes) -> bytes:
        return body[::-1]

    def decode(self, body: bytes) -> bytes:
        return body[::-1]


class Lost(ReversedCodec):
    """The same codec, which only decodes any more."""

    def encode(self, body: bytes) -> bytes:
        return body


class Vault(FernetCodec):
    """A Fernet codec whose keys are not in the settings."""

    def get_keys(self) -> list[str | bytes]:
        return [NEW]


class Nameless(ReversedCodec):
    """A codec without a name: what it stored could not be read."""

    name = ""


class LongName(ReversedCodec):
    """A codec whose name is longer than the column."""

    name = "x" * 33


reversed_codec = ReversedCodec()


@idempotent(max_response_bytes=8 * 1024 * 1024)
def card(request: HttpRequest) -> HttpResponse:
    """So many bytes: with a card number if the number is even, noise if it is odd."""
    nonce = secrets.token_hex(16)
    Order.objects.create(nonce=nonce)
    effects.happened(nonce)
    size = int(request.GET["act"])
    body = (
        secrets.token_bytes(size)
        if size % 2
        else (nonce.encode() + TEXT * (size // len(TEXT) + 1))[:size]
    )
    return HttpResponse(body, "application/octet-stream", 201)


urlpatterns = [*app_urls, path("card/", card)]


@pytest.fixture(autouse=True)
def keys(settings: Settings) -> None:
    """The settings have one Fernet key."""
    settings.IDEMPOTENCY_FERNET_KEYS = [OLD]


@pytest.fixture(params=list(CHAINS.items()), ids=list(CHAINS))
def chain(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each codec, and some chains of them; the name that is stored."""
    name, setting = request.param
    with override_settings(IDEMPOTENCY_BODY_CODEC=setting):
        yield name


def record() -> IdempotencyRecord:
    """The only record."""
    return IdempotencyRecord.objects.get()


def test_without_codecs_bodies_are_stored_as_they_are(key: str, post: Post) -> None:
    """The name of the codec is empty then."""
    first = post("/function/", key)
    assert bytes(record().response_body or b"") == first.content
    assert record().response_codec == ""


@pytest.mark.parametrize("body", [TEXT, b"\x00\xff" * 5000], ids=["text", "binary"])
def test_body_comes_back(chain: str, body: bytes) -> None:
    """The names of the codecs, in their order, decode it to the same bytes."""
    sent = StoredResponse(201, [("X-Cake", "lemon")], body)
    stored = encoded(sent)
    assert stored.codec == chain
    assert stored.body != body
    assert (stored.status, stored.headers) == (sent.status, sent.headers)
    assert decoded(stored) == sent


@pytest.mark.parametrize("body", [None, b""], ids=["omitted", "empty"])
def test_body_of_nothing_comes_back(chain: str, body: bytes | None) -> None:
    """A body that was too large to be stored stays distinct from an empty one."""
    assert decoded(encoded(StoredResponse(200, [], body))).body == body


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("act", ["order", "latin", "binary", "no_content", "page", "file"])
def test_replay_is_the_first_reply(
    chain: str, act: str, door: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """There is one effect, and the replay has the same status, bytes and headers."""
    first, second = post(door, key, act=act), post(door, key, act=act)
    assert Order.objects.count() == effects.count() == 1
    assert b"".join(first) == b"".join(second)
    assert first.status_code == second.status_code
    assert dict(second.items()) == {**dict(first.items()), "Idempotent-Replayed": "true"}


@pytest.mark.parametrize("size", [10, 2_000_000, 2_000_001], ids=["small", "large", "noise"])
def test_table_does_not_hold_what_was_sent(chain: str, size: int, key: str, post: Post) -> None:
    """Large bodies are replayed unchanged, too."""
    first, second = post("/card/", key, act=str(size)), post("/card/", key, act=str(size))
    assert effects.count() == 1
    assert first.content == second.content
    assert len(first.content) == size
    stored = bytes(record().response_body or b"")
    if record().response_codec:
        assert stored != first.content
        assert CARD.encode() not in stored


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize(
    "body", [b"x" * 199, os.urandom(5000), gzip.compress(TEXT)], ids=["small", "noise", "gzipped"]
)
def test_body_that_would_not_shrink_stays_plain(name: str, body: bytes) -> None:
    """Such a body is stored without the codec's name; encryption applies all the same."""
    with override_settings(IDEMPOTENCY_BODY_CODEC=name):
        assert encoded(StoredResponse(200, [], body)) == StoredResponse(200, [], body)
    with override_settings(IDEMPOTENCY_BODY_CODEC=[name, "fernet"]):
        assert encoded(StoredResponse(200, [], body)).codec == "fernet"


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_text_shrinks_and_twice_to_the_same_bytes(name: str) -> None:
    """The compressed body contains no time stamp."""
    with override_settings(IDEMPOTENCY_BODY_CODEC=name):
        stored, again = (encoded(StoredResponse(200, [], TEXT)).body or b"" for _ in range(2))
    assert stored == again
    assert len(stored) < len(TEXT) / 10


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_bomb_is_not_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body above the limit is stored uncompressed, so it can be read."""
    with override_settings(IDEMPOTENCY_BODY_CODEC=name):
        fits, bomb = (encoded(StoredResponse(200, [], b"0" * size)) for size in (1000, 1001))
        monkeypatch.setattr(compression, "_LARGEST_BYTES", 1000)
        assert decoded(fits).body == b"0" * 1000
        with pytest.raises(UndecodableError, match=name):
            decoded(bomb)
        assert encoded(StoredResponse(200, [], b"0" * 1001)).codec == ""


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_body_that_was_cut_off_is_no_body(name: str) -> None:
    """Half a body is never replayed."""
    with override_settings(IDEMPOTENCY_BODY_CODEC=name):
        stored = encoded(StoredResponse(200, [], TEXT))
    with pytest.raises(UndecodableError):
        decoded(StoredResponse(200, [], (stored.body or b"")[:-1], name))


def test_limit_is_that_of_the_plain_body(key: str, post: Post, settings: Settings) -> None:
    """A body above the limit is omitted, even if it would compress to less."""
    settings.IDEMPOTENCY_BODY_CODEC = "gzip"
    size = str(8 * 1024 * 1024 + 2)
    post("/card/", key, act=size)
    assert post("/card/", key, act=size)["Idempotent-Body"] == "omitted"
    assert record().response_body is None


def test_body_outlives_a_change_of_the_setting(chain: str, key: str, post: Post) -> None:
    """Shipped codecs always decode; a project's own stays listed, by one that only decodes."""
    first = post("/card/", key, act="3000")
    with override_settings(IDEMPOTENCY_BODY_CODEC=["tests.unit.codecs.test_codecs.Lost"]):
        assert encoded(StoredResponse(200, [], TEXT)).codec == ""
        assert post("/card/", key, act="3000").content == first.content
    assert effects.count() == 1


def replaying(post: Post, key: str, **settings: Any) -> HttpResponse:
    """The reply to the same request under other settings."""
    with override_settings(**settings):
        return post("/function/", key)


@pytest.mark.parametrize("chained", [["fernet"], ["gzip", "fernet"]], ids=["alone", "chained"])
def test_keys_are_rotated_without_losing_a_reply(
    chained: list[str], key: str, post: Post, settings: Settings
) -> None:
    """A new key in front encrypts, and the old one decrypts; without it the reply is a 503."""
    settings.IDEMPOTENCY_BODY_CODEC = chained
    first = post("/function/", key)
    settings.IDEMPOTENCY_FERNET_KEYS = [NEW, OLD]
    assert post("/function/", key).content == first.content
    newer = post("/function/", f"{key}-new")
    assert effects.count() == 2
    settings.IDEMPOTENCY_FERNET_KEYS = [NEW]
    assert post("/function/", f"{key}-new").content == newer.content
    assert post("/function/", key).status_code == 503
    assert effects.count() == Order.objects.count() == 2


UNREADABLE: dict[str, tuple[Any, dict[str, Any]]] = {
    "removed-key": ("fernet", {"IDEMPOTENCY_FERNET_KEYS": [NEW]}),
    "no-keys": ("fernet", {"IDEMPOTENCY_BODY_CODEC": (), "IDEMPOTENCY_FERNET_KEYS": []}),
    "unlisted": ("tests.unit.codecs.test_codecs.ReversedCodec", {"IDEMPOTENCY_BODY_CODEC": "gzip"}),
    "one-unlisted": (
        ["tests.unit.codecs.test_codecs.ReversedCodec", "fernet"],
        {"IDEMPOTENCY_BODY_CODEC": "fernet"},
    ),
}


@pytest.mark.parametrize(("setting", "later"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("door", DOORS)
def test_body_that_cannot_be_read_is_a_503(
    door: str,
    setting: Any,
    later: dict[str, Any],
    key: str,
    post: Post,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The view does not run again, the log names the codec and no key, and the body is kept."""
    with override_settings(IDEMPOTENCY_BODY_CODEC=setting):
        first = post(door, key)
    stored = record().response_codec
    with override_settings(**later):
        refused = post(door, key)
    assert effects.count() == Order.objects.count() == 1
    assert (refused.status_code, refused["Retry-After"]) == (503, "1")
    assert b"idempotency_unavailable" in refused.content or door == "/mixin/"
    (logged,) = [
        each
        for each in caplog.records
        if each.name == "django_idempotency" and each.levelno == logging.ERROR
    ]
    assert stored in logged.getMessage()
    assert key not in caplog.text
    with override_settings(IDEMPOTENCY_BODY_CODEC=setting):
        assert post(door, key).content == first.content


def test_damaged_body_is_a_503(chain: str, key: str, post: Post) -> None:
    """Encryption and compression detect the damage."""
    post("/card/", key, act="3000")
    body = bytearray(record().response_body or b"")
    body[len(body) // 2] ^= 1
    IdempotencyRecord.objects.update(response_body=bytes(body))
    if "reversed" not in chain:
        assert post("/card/", key, act="3000").status_code == 503
    assert effects.count() == 1


BROKEN: dict[str, dict[str, Any]] = {
    "no-keys": {"BODY_CODEC": "fernet", "FERNET_KEYS": []},
    "no-list": {"BODY_CODEC": "fernet", "FERNET_KEYS": None},
    "bad-key": {"BODY_CODEC": "fernet", "FERNET_KEYS": [OLD, "secret"]},
    "no-text": {"BODY_CODEC": "fernet", "FERNET_KEYS": [7]},
    "bad-path": {"BODY_CODEC": "tests.unit.codecs.test_codecs.Nowhere"},
    "bad-name": {"BODY_CODEC": "gzipp"},
    "no-codec": {"BODY_CODEC": ["gzip", "tests.unit.codecs.test_codecs.CARD"]},
    "nameless": {"BODY_CODEC": "tests.unit.codecs.test_codecs.Nameless"},
    "long-name": {"BODY_CODEC": "tests.unit.codecs.test_codecs.LongName"},
    "long-chain": {"BODY_CODEC": ["tests.unit.codecs.test_codecs.ReversedCodec"] * 4},
}


@pytest.mark.parametrize("wrong", BROKEN.values(), ids=BROKEN)
def test_codec_that_cannot_be_used_lets_nothing_run(
    wrong: dict[str, Any], key: str, post: Post, settings: Settings
) -> None:
    """The reply is a 500 before the view runs, in a door that is not atomic, too."""
    for name, value in wrong.items():
        setattr(settings, f"IDEMPOTENCY_{name}", value)
    assert post("/plainly/", key).status_code == post("/function/", key).status_code == 500
    assert effects.count() == Order.objects.count() == IdempotencyRecord.objects.count() == 0
    (message,) = checks.check_codecs(None)
    assert message.id == "django_idempotency.E005"
    assert "secret" not in str(message)
    assert post("/function/").status_code == 201


def test_keys_are_checked_when_nothing_new_is_encrypted(settings: Settings) -> None:
    """Keys that are configured are still needed to decrypt older bodies."""
    assert list(checks.check_codecs(None)) == []
    settings.IDEMPOTENCY_FERNET_KEYS = ["secret"]
    assert len(list(checks.check_codecs(None))) == 1


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("BODY_CODEC", 1, True),
        ("BODY_CODEC", ["gzip", 1], True),
        ("BODY_CODEC", "gzip", False),
        ("BODY_CODEC", ["gzip", "fernet"], False),
        ("FERNET_KEYS", ["secret"], False),
        ("QUOTA_CACHE", "nowhere", True),
        ("QUOTA_CACHE", ["default"], True),
        ("QUOTA_CACHE", "default", False),
    ],
)
def test_settings_are_checked(name: str, value: Any, fault: bool, settings: Settings) -> None:
    """A wrong value is E001, which contains no key."""
    setattr(settings, f"IDEMPOTENCY_{name}", value)
    messages = list(checks.check_settings(None))
    assert [message.id for message in messages] == ["django_idempotency.E001"] * fault
    assert "secret" not in str(messages)


def test_zstd_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The error is raised when the settings are read, not when a body is encoded."""
    monkeypatch.setattr(compression, "zstd", None)
    settings.IDEMPOTENCY_BODY_CODEC = "zstd"
    with pytest.raises(ImproperlyConfigured, match=r"django-idempotency\[zstd\]"):
        codecs.configured()


def test_keys_may_come_from_elsewhere(key: str, post: Post, settings: Settings) -> None:
    """A subclass with the shipped codec's name replaces it."""
    settings.IDEMPOTENCY_FERNET_KEYS = []
    settings.IDEMPOTENCY_BODY_CODEC = "tests.unit.codecs.test_codecs.Vault"
    first = post("/function/", key)
    assert post("/function/", key).content == first.content
    assert Fernet(NEW).decrypt(bytes(record().response_body or b"")) == first.content


def test_admin_shows_what_was_sent(settings: Settings) -> None:
    """Where the body cannot be decoded, the admin names its codecs."""
    settings.IDEMPOTENCY_BODY_CODEC = ["gzip", "fernet"]
    stored = encoded(StoredResponse(200, [], TEXT))
    assert body_of(stored).text == TEXT.decode()
    settings.IDEMPOTENCY_FERNET_KEYS = [NEW]
    assert body_of(stored).text == ""
    assert "gzip+fernet" in str(body_of(stored).note)
