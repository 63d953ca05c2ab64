"""Test clients that behave as a careful caller does: a fresh key for each intent, and repeats."""

import functools
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.test import AsyncClient, Client

from ..policy import resolve


def fresh_headers() -> dict[str, str]:
    """The header that carries a key by the project's default, with a key never sent before."""
    return {resolve({}).headers[0]: str(uuid.uuid4())}


def _bare(name: str) -> str:
    """A header's name, whether it is written as in HTTP or as in WSGI."""
    return name.upper().replace("-", "_").removeprefix("HTTP_")


def _keys_in(*sources: Mapping[str, str]) -> list[str]:
    given = {_bare(name): value for source in sources for name, value in source.items()}
    return [given[_bare(name)] for name in resolve({}).headers if _bare(name) in given]


class IdempotencyClientMixin:
    """Makes a test client send a fresh key with each request whose method is covered.

    Methods and header are the project's defaults. A key that the caller gives is left alone.
    """

    defaults: Any
    #: The key of the last request that had one; empty before the first.
    last_key = ""
    _again: Callable[[], Any] | None = None

    # Every method of Django's and REST framework's clients ends here, its body encoded.
    def generic(
        self,
        method: str,
        path: Any,
        *args: Any,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> Any:
        """Send a request; one with a key can be repeated."""
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
        """Send the last request that had a key again: same method, path, headers and bytes."""
        if self._again is None:
            raise RuntimeError("There is nothing to repeat: no request had a key yet.")
        return self._again()


class IdempotencyClient(IdempotencyClientMixin, Client):
    """Django's test client with a fresh key in each covered request."""


class IdempotencyAsyncClient(IdempotencyClientMixin, AsyncClient):
    """Django's asynchronous test client with a fresh key in each covered request."""
