"""Many callers at once, and a caller that repeats its request until it is answered."""

from collections.abc import Mapping, Sequence

from django.test import Client

from tests.concurrency.owners import Reply
from tests.concurrency.test_racers import race
from tests.support.patience import until


def ask(path: str, key: str | None = None, **headers: str) -> Reply:
    """The reply to a request, with a key or without; a view's exception becomes a 500."""
    if key is not None:
        headers["Idempotency-Key"] = key
    return Client(raise_request_exception=False).post(path, headers=headers)


def together(path: str, keys: Sequence[str]) -> list[Reply]:
    """The replies to one request for each of ``keys``, all sent at the same moment."""
    waiting = iter(keys)
    return race(lambda: ask(path, next(waiting)), len(keys))


def together_at(paths: Mapping[str, str], *, keyed: bool = True) -> dict[str, Reply]:
    """The replies by key; the path of each is requested at the same moment, with or without it."""
    waiting = iter(paths)

    def next_one() -> tuple[str, Reply]:
        key = next(waiting)
        return key, ask(paths[key], key if keyed else None)

    return dict(race(next_one, len(paths)))


def until_answered(path: str, key: str, *, status: int = 201) -> Reply:
    """The first reply with this status; the request is repeated as long as clients may do so."""

    def answered() -> Reply | None:
        reply = ask(path, key)
        return reply if reply.status_code == status else None

    return until(answered, f"no {status} for this key")
