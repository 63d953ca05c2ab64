"""Assertions on replays, whose messages say what was expected and what happened instead.

Responses may come from Django's test clients, or from any library whose responses have
``status_code``, ``headers`` and ``content``.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync

from ..http.responses import BODY_HEADER, NO_OUTCOME, REPLAYED_HEADER
from .clients import fresh_headers

#: Sends one request with the headers it is given, and returns the response.
Call = Callable[[dict[str, str]], Any]

# Enough to recognise a reply; a whole page would bury the message.
_SHOWN_BYTES = 200
# Headers that a replay does not repeat: its own mark, the first caller's cookies, the time.
_NOT_COMPARED = frozenset((REPLAYED_HEADER.lower(), "set-cookie", "date"))
_REFUSALS = frozenset((400, 409, 410, 422, 429, 503))


def _body(response: Any) -> bytes:
    if not getattr(response, "streaming", False):
        return bytes(response.content)
    body = b"".join(response.streaming_content)
    response.streaming_content = [body]
    return body


def _shown(response: Any) -> str:
    if getattr(response, "streaming", False):
        return f"{response.status_code}, a stream"
    more = "..." if len(response.content) > _SHOWN_BYTES else ""
    return f"{response.status_code} {response.content[:_SHOWN_BYTES]!r}{more}"


def _is_replay(response: Any) -> bool:
    return bool(response.headers.get(REPLAYED_HEADER) == "true")


def assert_replayed(response: Any) -> None:
    """Raise AssertionError unless the response is a replay."""
    __tracebackhide__ = True
    if not _is_replay(response):
        raise AssertionError(f"This is no replay, but a reply of its own: {_shown(response)}")


def assert_not_replayed(response: Any) -> None:
    """Raise AssertionError if the response is a replay."""
    __tracebackhide__ = True
    if _is_replay(response):
        raise AssertionError(f"This is a replay, and no reply of its own: {_shown(response)}")


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request's response, and what ``effects()`` returned before and after it."""

    response: Any
    before: Any
    after: Any

    @property
    def had_effect(self) -> bool:
        return bool(self.before != self.after)

    def __str__(self) -> str:
        counts = f"effects() went from {self.before!r} to {self.after!r}"
        return f"{counts}, and the reply was {_shown(self.response)}"


async def _awaited(value: Any) -> Any:
    return await value


def _result(value: Any) -> Any:
    return async_to_sync(_awaited)(value) if inspect.isawaitable(value) else value


def _send(call: Call, headers: Mapping[str, str], effects: Callable[[], Any]) -> _Sent:
    before = _result(effects())
    response = _result(call(dict(headers)))
    return _Sent(response, before, _result(effects()))


def _fault_of_first(first: _Sent, *, counted: bool) -> str | None:
    if _is_replay(first.response):
        return f"The first request, with a fresh key, got a replay: {_shown(first.response)}"
    if counted and not first.had_effect:
        return f"The first request had no effect: {first}"
    return None


def _why_no_replay(first: Any, repeated: Any) -> str:
    was, now = first.status_code, repeated.status_code
    if now != was and now in _REFUSALS:
        hint = "\nDoes call() send the same request each time?" if now == 422 else ""
        return f"The repeated request was refused: {_shown(repeated)}{hint}"
    said = f"The repeated request ran the view again: no replay came, but {_shown(repeated)}"
    if was in NO_OUTCOME or was >= 500:
        return f"{said}\nThe first reply was {_shown(first)}: that is no outcome and frees the key."
    return f"{said}\nIs the view covered, and does call() send the headers it is given?"


def _other_headers(first: Any, replay: Any, ignored: Collection[str]) -> str:
    was, now = (
        {name.lower(): value for name, value in response.headers.items()}
        for response in (first, replay)
    )
    names = sorted((was.keys() | now.keys()) - _NOT_COMPARED - {name.lower() for name in ignored})
    different = [name for name in names if was.get(name) != now.get(name)]
    return "; ".join(f"{name} {was.get(name)!r}, then {now.get(name)!r}" for name in different)


def _difference(first: Any, replay: Any, ignored: Collection[str]) -> str | None:
    """What differs in the replay, in words; a body that was too large to store is not compared."""
    if first.status_code != replay.status_code:
        return f"status {first.status_code}, then {replay.status_code}"
    if replay.headers.get(BODY_HEADER) == "omitted":
        return None
    if _body(first) != _body(replay):
        return f"body {_shown(first)}, then {_shown(replay)}"
    return _other_headers(first, replay, ignored) or None


def _fault_of_repeat(first: _Sent, repeated: _Sent, ignored: Collection[str]) -> str | None:
    if repeated.had_effect:
        return f"The repeated request ran the view again: {repeated}"
    if not _is_replay(repeated.response):
        return _why_no_replay(first.response, repeated.response)
    difference = _difference(first.response, repeated.response, ignored)
    return f"The replay differs from the first reply: {difference}" if difference else None


def _fault_of_other(other: _Sent) -> str | None:
    if other.had_effect:
        return f"Another request with the same key ran the view: {other}"
    if other.response.status_code != 422:
        return f"Another request with the same key was not refused: {_shown(other.response)}"
    return None


def _fail_if(fault: str | None) -> None:
    __tracebackhide__ = True
    if fault is not None:
        raise AssertionError(fault)


def assert_idempotent(
    call: Call,
    *,
    effects: Callable[[], Any] | None = None,
    other: Call | None = None,
    times: int = 2,
    ignore_headers: Collection[str] = (),
) -> Any:
    """The view runs once however often its request is repeated; returns the first response.

    ``call(headers)`` sends one request with the headers it is given, and is called ``times`` times
    with one fresh key. The first reply must not be a replay; all others must be replays with its
    status, bytes and headers (except ``Set-Cookie``, ``Date`` and ``ignore_headers``).
    ``effects()`` counts what the view does (rows, mails, charges): the first request must change
    the count, the others must not. ``other(headers)`` sends another request with the same key,
    which must get 422. All three may return awaitables. Raises AssertionError.
    """
    __tracebackhide__ = True
    if times < 2:
        raise ValueError("times must be 2 or more, or nothing is repeated")
    send = functools.partial(_send, headers=fresh_headers(), effects=effects or (lambda: None))
    first = send(call)
    _fail_if(_fault_of_first(first, counted=effects is not None))
    for _ in range(times - 1):
        _fail_if(_fault_of_repeat(first, send(call), ignore_headers))
    if other is not None:
        _fail_if(_fault_of_other(send(other)))
    return first.response
