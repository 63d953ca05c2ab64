"""System checks of the project's settings, and of the codecs that they name."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from .. import codecs, conf
from ..http.responses import REPLAYED_HEADER
from ..policy import resolve

Check = Callable[..., Iterable[CheckMessage]]


def check(tag: str, *, deploy: bool = False) -> Callable[[Check], Check]:
    """Register a check, which says nothing while E001 refuses a setting that it may read."""

    def registered(function: Check) -> Check:
        @functools.wraps(function)
        def checked(app_configs: object, **kwargs: Any) -> Iterable[CheckMessage]:
            return [] if any(conf.faults()) else function(app_configs, **kwargs)

        return register(tag, deploy=deploy)(checked)

    return registered


@register(Tags.compatibility)
def check_settings(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """E001: each setting is what it must be."""
    for problem in conf.faults():
        yield Error(
            problem,
            hint="See the table of options in the documentation.",
            id="django_idempotency.E001",
        )


@register(Tags.compatibility)
def check_foreign_settings(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W015: a setting with this package's prefix is one of its settings, and not mistyped."""
    for name in conf.foreign():
        # Without the prefix, which all of them share.
        known = {each.removeprefix(conf.PREFIX): each for each in conf.SETTINGS}
        similar = get_close_matches(name.removeprefix(conf.PREFIX), known, n=1)
        yield Warning(
            f"{name} is no setting of django_idempotency.",
            hint=f"Did you mean {known[similar[0]]}?"
            if similar
            else "If it is another package's, silence this with SILENCED_SYSTEM_CHECKS.",
            id="django_idempotency.W015",
        )


def _lacking(name: str, wanted: Iterable[str]) -> list[str]:
    """Those of the wanted headers that a setting of django-cors-headers does not list."""
    given = getattr(settings, name, ())
    # What else it may be is for the checks of django-cors-headers to say.
    listed = {str(header).lower() for header in given} if isinstance(given, Collection) else {"*"}
    return [header for header in wanted if header.lower() not in listed and "*" not in listed]


@check(Tags.compatibility)
def check_cors(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W002 and W003: code in another site's pages may send a key, and read what became of it."""
    if not apps.is_installed("corsheaders"):
        return
    if unsent := _lacking("CORS_ALLOW_HEADERS", resolve({}).headers):
        yield Warning(
            f"CORS_ALLOW_HEADERS lacks {', '.join(unsent)}: browsers refuse to send a key.",
            hint="CORS_ALLOW_HEADERS = (*corsheaders.defaults.default_headers, "
            + ", ".join(f'"{name.lower()}"' for name in unsent)
            + ")",
            id="django_idempotency.W002",
        )
    if unread := _lacking("CORS_EXPOSE_HEADERS", (REPLAYED_HEADER, "Retry-After")):
        yield Warning(
            f"CORS_EXPOSE_HEADERS lacks {', '.join(unread)}: scripts cannot read them.",
            hint=f'CORS_EXPOSE_HEADERS = ["{REPLAYED_HEADER}", "Retry-After"]',
            id="django_idempotency.W003",
        )


@check(Tags.security)
def check_codecs(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """E005: stored bodies can be written and read."""
    for problem in codecs.faults():
        yield Error(
            f"Stored bodies cannot be written, or not all of them can be read: {problem}",
            hint="Until then each request that needs such a codec is a 500, and no view runs.",
            id="django_idempotency.E005",
        )
