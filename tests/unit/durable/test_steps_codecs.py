"""Outputs of steps as they lie in the table: compressed, encrypted, or not to be read."""

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pytest_django import Settings

from django_idempotency.models import IdempotencyStep
from tests.app.models import Order
from tests.conftest import Post
from tests.support.stage import (
    ON_STAGE,
    DeclinedError,
    DownError,
    Service,
    bake,
    code,
    fails_first,
    outcome,
    plays,
    runs,
    step,
)

pytestmark = ON_STAGE

CARD = "4242-4242-4242-4242"
CHAINS = [None, "gzip", "zstd", "fernet", ["gzip", "fernet"]]


@pytest.fixture
def keys(settings: Settings) -> list[bytes]:
    """Outputs are encrypted with these."""
    settings.IDEMPOTENCY_BODY_CODEC = "fernet"
    settings.IDEMPOTENCY_FERNET_KEYS = keys = [Fernet.generate_key()]
    return keys


def half_done(key: str, post: Post, result: Any = CARD) -> None:
    """An operation that failed after a step and a call."""
    service = Service()

    @plays
    @fails_first
    def act(op: Any) -> Any:
        return op.step("ride", lambda: (bake(), result)), op.call("charge", service, CARD)

    assert post("/plain/", key).status_code == 500


@pytest.mark.parametrize("codec", CHAINS, ids=repr)
def test_output_comes_back_through_the_codecs(
    codec: Any, key: str, post: Post, settings: Settings
) -> None:
    """Whatever the setting says later; each row knows its own."""
    settings.IDEMPOTENCY_BODY_CODEC = codec
    settings.IDEMPOTENCY_FERNET_KEYS = [Fernet.generate_key()]
    half_done(key, post, CARD * 1000)
    names = codec if isinstance(codec, list) else [codec] if codec else []
    assert step("ride").codec == "+".join(names)
    settings.IDEMPOTENCY_BODY_CODEC = None
    assert outcome(post("/plain/", key))[0][1] == CARD * 1000
    assert runs("bake lemon") == 1


def test_encrypted_output_shows_nothing(key: str, post: Post, keys: list[bytes]) -> None:
    """No byte of results or arguments is in any row of a step."""
    half_done(key, post)
    rows = [
        b"|".join(bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for v in row)
        for row in IdempotencyStep.objects.values_list()
    ]
    assert len(rows) == 2
    for plain in (CARD.encode(), b"4242", Order.objects.get().nonce.encode(), b"args"):
        assert plain not in b"".join(rows)
    text = Fernet(keys[0]).decrypt(bytes(step("ride").output or b""))
    assert json.loads(text)[1] == CARD


def test_errors_show_no_more_than_their_class(key: str, post: Post) -> None:
    """Messages may hold anything."""

    def fails(**kwargs: Any) -> None:
        raise DownError(CARD)

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(DownError):
            op.step("ride", fails)
        op.call("charge", fails)

    assert post("/plain/", key).status_code == 500
    assert set(IdempotencyStep.objects.values_list("error", flat=True)) == {"DownError"}


@pytest.mark.parametrize("loss", ["key", "damaged", "unheard-of"])
@pytest.mark.parametrize("door", ["/plain/", "/kept/"])
def test_output_that_cannot_be_read_makes_nothing_run(
    door: str, loss: str, key: str, post: Post, settings: Settings, keys: list[bytes]
) -> None:
    """503: neither that step nor the later ones run; with the right key it goes on."""
    plays(lambda op: None)
    fails = fails_first()

    @plays
    def act(op: Any) -> Any:
        done = op.step("ride", bake)
        fails()
        return op.step("pay", bake, "pay"), done

    assert post(door, key).status_code == 500
    row = step("ride")
    if loss == "key":
        settings.IDEMPOTENCY_FERNET_KEYS = [Fernet.generate_key()]
    elif loss == "damaged":
        IdempotencyStep.objects.update(output=b"gAAAAA" + bytes(row.output or b"")[6:-9])
    else:
        IdempotencyStep.objects.update(codec="unheard-of")
    for _ in range(2):
        reply = post(door, key)
        assert (reply.status_code, code(reply)) == (503, "idempotency_unavailable")
        assert reply["Retry-After"]
    assert (runs("bake lemon"), runs("bake pay")) == (1, 0)
    settings.IDEMPOTENCY_FERNET_KEYS = keys
    IdempotencyStep.objects.update(output=row.output, codec=row.codec)
    assert outcome(post(door, key))
    assert Order.objects.count() == 2


def test_output_that_is_no_json_any_more_makes_nothing_run(key: str, post: Post) -> None:
    """The table was changed from outside."""
    half_done(key, post)
    IdempotencyStep.objects.filter(name="ride").update(output=b"{")
    assert post("/plain/", key).status_code in (500, 503)
    assert runs("bake lemon") == 1


def test_failure_needs_no_output(key: str, post: Post, settings: Settings, keys: Any) -> None:
    """It is known without a key; what is to be taken back is not."""
    refunds = Service()

    @plays
    def act(op: Any) -> Any:
        op.call("charge", Service(), undo=refunds)
        op.call("ship", declines, fatal=(DeclinedError,))

    declines = Service(DeclinedError())
    refunds.errors = [DownError()]
    assert post("/plain/", key).status_code == 500
    settings.IDEMPOTENCY_FERNET_KEYS = [Fernet.generate_key()]
    assert code(post("/plain/", key)) == "idempotency_unavailable"
    settings.IDEMPOTENCY_FERNET_KEYS = keys
    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert len(refunds.ledger) == 1
