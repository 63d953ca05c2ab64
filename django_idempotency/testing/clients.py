"""Test clients that behave like a careful caller: each request has a fresh key, unless repeated."""

import functools
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.test import AsyncClient, Client

from ..policy import resolve


def fresh_headers() -> dict[str, str]:
    """The project's default header with a fresh key."""
    return {resolve({}).headers[0]: str(uuid.uuid4())}


def _bare(name: str) -> str:
    """A header's name in one spelling, whether it came as in HTTP or as in WSGI."""
    return name.upper().replace("-", "_").removeprefix("HTTP_")


def _keys_in(*sources: Mapping[str, str]) -> list[str]:
    given = {_bare(name): value for source in sources for name, value in source.items()}
    return [given[_bare(name)] for name in resolve({}).headers if _bare(name) in given]


class IdempotencyClientMixin:
    """Makes a test client send a fresh key with each request whose method is covered.

    Methods and header are the project's defaults. A key that the test gives is sent instead.
    """

    defaults: Any
    #: The key of the last request that had one; empty before there was any.
    last_key = ""
    _again: Callable[[], Any] | None = None

    # Every method of Django's and REST framework's clients calls this one, with an encoded body.
    def generic(
        self,
        method: str,
        path: Any,
        *args: Any,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> Any:
        """Send a request; if it has a key, :meth:`repeat` can send it again."""
        headers = dict(headers or {})
        if method in resolve({}).methods and not _keys_in(self.defaults, extra, headers):
            headers |= fresh_headers()
        send = functools.partial(
            super().generic,  # type: ignore[misc]
            *(method, path, *args),
            headers=headers,
            **extra,
        )
        if keys := _keys_in(self.defaults, extra, headers):
            self.last_key, self._again = keys[0], send
        return send()

    def repeat(self) -> Any:
        """Send the last request with a key again: same method, path, headers and bytes."""
        if self._again is None:
            raise RuntimeError("There is nothing to repeat: no request had a key yet.")
        return self._again()


class IdempotencyClient(IdempotencyClientMixin, Client):
    """Django's test client with a fresh key in each covered request."""


class IdempotencyAsyncClient(IdempotencyClientMixin, AsyncClient):
    """Django's asynchronous test client with a fresh key in each covered request."""
