"""What steps take and give: the same value in every attempt, and arguments by what names them."""

import datetime
import enum
import hashlib
import json
import math
import uuid
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy
from pytest_django import Settings

from django_idempotency.codecs import UndecodableError, encode
from django_idempotency.durable.definitions import (
    digest_of,
    result_of,
    result_to_json,
)
from tests.app.models import Delivery, Order
from tests.conftest import Post
from tests.support.stage import DownError, outcome, plays, steps

pytestmark = pytest.mark.once

A_DAY = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)


class Size(enum.StrEnum):
    """A member is text."""

    LARGE = "large"


#: What a function returns, and what every attempt gets of it.
RESULTS: dict[str, tuple[Any, Any]] = {
    "none": (None, None),
    "true": (True, True),
    "integer": (2**70, 2**70),
    "float": (0.1, 0.1),
    "text": ("Törtchen 🍰 \x00 \u2028 \ud800", "Törtchen 🍰 \x00 \u2028 \ud800"),
    "decimal": (Decimal("12.50"), "12.50"),
    "datetime": (A_DAY, "2026-01-02T03:04:05.678Z"),
    "date": (A_DAY.date(), "2026-01-02"),
    "duration": (datetime.timedelta(hours=1), "P0DT01H00M00S"),
    "uuid": (uuid.UUID(int=7), str(uuid.UUID(int=7))),
    "lazy": (gettext_lazy("record"), "record"),
    "enum": (Size.LARGE, "large"),
    "tuple": ((1, (2, 3)), [1, [2, 3]]),
    "numbers as keys": ({1: {None: 2}}, {"1": {"null": 2}}),
    "ordered": (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "empty": ({}, {}),
}
UNWRITABLE: dict[str, Any] = {
    "bytes": b"cake",
    "set": {1},
    "object": object(),
    "instance": Order(pk=7),
    "circle": [],
    "coroutine": iter(()),
}
UNWRITABLE["circle"].append(UNWRITABLE["circle"])


@pytest.mark.parametrize(("result", "expected"), RESULTS.values(), ids=RESULTS)
def test_result_comes_back_as_it_was_handed_on(result: Any, expected: Any) -> None:
    """Recorded again, it stays the same."""
    first = json.loads(result_to_json("ride", result))
    assert repr(first) == repr(expected)
    assert repr(json.loads(result_to_json("ride", first))) == repr(expected)
    assert repr(result_of(*encode(result_to_json("ride", result)))) == repr(expected)


def test_what_is_no_number_comes_back_as_none() -> None:
    """Python's JSON knows NaN."""
    assert math.isnan(json.loads(result_to_json("ride", math.nan)))


@pytest.mark.parametrize("result", UNWRITABLE.values(), ids=UNWRITABLE)
def test_result_that_json_cannot_hold_is_an_error(result: Any) -> None:
    """It names the step."""
    with pytest.raises(TypeError, match="'ride': its result must be JSON"):
        result_to_json("ride", result)


def test_result_that_is_too_long_is_an_error(settings: Settings) -> None:
    """Its size is that of its JSON, in bytes."""
    settings.IDEMPOTENCY_MAX_STEP_BYTES = 8
    assert result_to_json("ride", "x" * 6) == b'"xxxxxx"'
    for long in ("x" * 7, "üü", ["x"] * 3):
        with pytest.raises(ValueError, match=r"'ride': .* bytes, and IDEMPOTENCY_MAX_STEP_BYTES"):
            result_to_json("ride", long)


def test_no_output_is_no_result() -> None:
    """Of a step that was erased, or that has failed."""
    assert result_of(None, "") is None


def test_output_that_cannot_be_decoded_says_so() -> None:
    """The caller makes a 503 of it."""
    with pytest.raises(UndecodableError):
        result_of(b"cake", "unheard-of")


def digest(*args: Any, **kwargs: Any) -> bytes:
    """That of a step with these arguments."""
    return digest_of("ride", args, kwargs)


def test_arguments_have_a_digest_of_their_own() -> None:
    """Each differs from the others."""
    arguments: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((1,), {}),
        (("1",), {}),
        ((1, 2), {}),
        (([1, 2],), {}),
        (([1], 2), {}),
        ((), {"a": 1}),
        (({"a": 1},), {}),
        ((None,), {}),
        ((Order(pk=1),), {}),
        ((Order(pk=2),), {}),
        ((Delivery(pk=1),), {}),
        (([{"of": Order(pk=1)}],), {}),
    ]
    digests = {digest_of("ride", args, kwargs) for args, kwargs in arguments}
    assert len(digests) == len(arguments)
    assert {len(each) for each in digests} == {32}


def test_same_arguments_have_the_same_digest() -> None:
    """Whatever the order of names, in whichever process, and whatever else the instances hold."""
    assert digest(a=1, b={"y": 1, "x": 2}) == digest(b={"x": 2, "y": 1}, a=1)
    assert digest((1, 2)) == digest([1, 2])
    assert digest(Order(pk=1, nonce="a")) == digest(Order(pk=1, nonce="b"))
    assert digest(User(pk=1), Decimal("1.0"), A_DAY) == digest(User(pk=1), Decimal("1.0"), A_DAY)
    known = json.dumps([["lemon"], {}], separators=(",", ":")).encode()
    assert digest("lemon") == hashlib.sha256(known).digest()


@pytest.mark.parametrize(
    "argument", [b"cake", {1}, object(), {"a": 1, 2: 3}], ids=["bytes", "set", "object", "keys"]
)
def test_arguments_that_json_cannot_hold_are_an_error(argument: Any) -> None:
    """With the advice in it."""
    with pytest.raises(TypeError, match="'ride': arguments must be JSON or instances of models"):
        digest(argument)
    with pytest.raises(TypeError, match="'ride'"):
        digest(cake=argument)


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("tests.support.stage")
@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_first_attempt_gets_the_value_of_the_later_ones(keyed: bool, key: str, post: Post) -> None:
    """Not the Decimal or the tuple that the function returned, with and without a key."""
    seen = []
    results = [result for result, _ in RESULTS.values()]

    @plays
    def act(op: Any) -> Any:
        seen.append(op.step("ride", lambda: results))
        if len(seen) == 1 and keyed:
            raise DownError

    for _ in range(1 + keyed):
        post("/plain/", key if keyed else None)
    expected = [expected for _, expected in RESULTS.values()]
    assert [repr(each) for each in seen] == [repr(expected)] * (1 + keyed)


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("tests.support.stage")
@pytest.mark.parametrize("result", [b"cake", "x" * 100], ids=["not-json", "too-long"])
def test_step_whose_result_cannot_be_recorded_has_not_run(
    result: Any, key: str, post: Post, settings: Settings
) -> None:
    """Its rows go with its checkpoint; the next attempt runs it again."""
    settings.IDEMPOTENCY_MAX_STEP_BYTES = 50
    results = [["ok"], result]

    def work() -> Any:
        Order.objects.create(nonce="cake")
        return results.pop()

    @plays
    def act(op: Any) -> Any:
        return op.step("ride", work)

    assert post("/plain/", key).status_code == 500
    assert not Order.objects.exists()
    assert steps() == {"ride": "retrying"}
    assert outcome(post("/plain/", key)) == ["ok"]
    assert Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("tests.support.stage")
def test_arguments_that_json_cannot_hold_are_refused_before_anything_runs(
    key: str, post: Post
) -> None:
    """Neither the step nor the call; nothing is recorded of them."""
    ran: list[Any] = []

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(TypeError):
            op.step("ride", ran.append, object())
        with pytest.raises(TypeError):
            op.call("charge", ran.append, object())

    assert post("/plain/", key).status_code == 201
    assert ran == []
    assert steps() == {}
