"""System checks that look at the views behind the project's URLs, and at where their doors are."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from asgiref.sync import iscoroutinefunction
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from .. import conf
from ..doors.marks import MARK, mark_of, unwrapped
from ..doors.policies import described_policy
from ..engine.atomic_requests import owns_transactions
from ..models import IdempotencyRecord
from ..policy import Policy, resolve

_MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"


def _callbacks(patterns: Iterable[Any]) -> Iterator[Any]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _callbacks(pattern.url_patterns)
        elif isinstance(pattern, URLPattern):
            yield pattern.callback


def _views() -> list[Any]:
    """Every view of the project, once."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    return list(dict.fromkeys(_callbacks(get_resolver().url_patterns)))


def _policies_of_class(cls: type[Any], callback: Any) -> Iterator[Policy]:
    given = getattr(callback, "initkwargs", None) or getattr(callback, "view_initkwargs", {})
    view = cls(**given)
    view.action_map = getattr(callback, "actions", None)
    for method in view.http_method_names:
        policy = described_policy(view, method.upper())
        if policy is not None:
            yield policy


def _policy_of(callback: Any) -> Policy | None:
    """The policy of a view that has a door of its own, by whichever method; None without one."""
    options = mark_of(callback).options
    cls = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    policy = resolve(options) if options is not None else None
    if policy is None and cls is not None:
        policy = next(_policies_of_class(cls, callback), None)
    return policy.for_a_coroutine() if policy and iscoroutinefunction(callback) else policy


def _name(callback: Any) -> str:
    return f"{callback.__module__}.{getattr(callback, '__qualname__', type(callback).__qualname__)}"


def _protected_views() -> Iterator[tuple[Any, Policy]]:
    for callback in _views():
        policy = _policy_of(callback)
        if policy is not None:
            yield callback, policy


def _atomic_aliases() -> set[str]:
    return {alias for alias in connections if connections[alias].settings_dict["ATOMIC_REQUESTS"]}


@register(Tags.urls)
def check_middleware(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """E004: the middleware calls function views itself, so nothing may come after it."""
    if _MIDDLEWARE in settings.MIDDLEWARE and settings.MIDDLEWARE[-1] != _MIDDLEWARE:
        yield Error(
            f"{_MIDDLEWARE} is not the last of MIDDLEWARE.",
            hint="What comes later, CSRF protection say, would not see function views.",
            id="django_idempotency.E004",
        )


@register(Tags.urls)
def check_leases(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """W004: a reply is kept for longer than an attempt is trusted."""
    for callback, policy in _protected_views():
        if policy.lease > policy.retention:
            yield Warning(
                f"{_name(callback)} has a lease longer than its retention.",
                hint="lease: how long a claim is trusted. retention: how long a reply is replayed.",
                id="django_idempotency.W004",
            )


@register(Tags.urls)
def check_databases_of_views(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """W005: the record's database is another than that of the requests' transactions."""
    atomic = _atomic_aliases()
    for callback, policy in _protected_views():
        using = policy.using or router.db_for_write(IdempotencyRecord)
        if policy.atomic and atomic and isinstance(using, str) and using not in atomic:
            yield Warning(
                f'{_name(callback)} keeps its records in "{using}", and ATOMIC_REQUESTS is on for'
                f" {', '.join(sorted(atomic))}.",
                hint="Keep them where the view writes (option using): one COMMIT for both.",
                id="django_idempotency.W005",
            )


@register(Tags.urls)
def check_hidden_doors(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """W006: under ATOMIC_REQUESTS a door the callback hides joins Django's transaction."""
    atomic = _atomic_aliases()
    for callback, policy in _protected_views():
        kept_apart = atomic <= set(getattr(callback, "_non_atomic_requests", ()))
        if policy.atomic and not kept_apart and not owns_transactions(callback):
            yield Warning(
                f"The door of {_name(callback)} is hidden, so its claims join the transaction of"
                " ATOMIC_REQUESTS: nobody sees them run, and failed attempts are not counted.",
                hint="Put @idempotent on the class or above @api_view, or use the mixin.",
                id="django_idempotency.W006",
            )


@register(Tags.urls)
def check_accepting_views(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """E006: who is told that a request was accepted is told where to ask for it."""
    accepting = [view for view, policy in _protected_views() if policy.respond == "accepted"]
    try:
        reverse("django_idempotency:operation", args=[UUID(int=0)])
    except NoReverseMatch:
        for callback in accepting:
            yield Error(
                f'{_name(callback)} has respond="accepted", and there is no URL for operations.',
                hint='Add path("", include("django_idempotency.urls")), or api_urls, to the URLs.',
                id="django_idempotency.E006",
            )


def _has_door_above_login(callback: Any) -> bool:
    # wraps() copies a door's mark outwards: the innermost that has it is the door itself.
    doors = [view for view in unwrapped(callback) if MARK in vars(view)]
    inside = getattr(doors[-1], "__wrapped__", None) if doors else None
    return hasattr(inside, "login_url")


def _counts_alone(alias: str) -> bool:
    backend = str(settings.CACHES.get(alias, {}).get("BACKEND"))
    return backend.endswith((".LocMemCache", ".DummyCache"))


@register(Tags.caches, deploy=True)
def check_quotas(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """W010: a quota is counted where all processes see it."""
    if not _counts_alone(conf.quota_cache()):
        return
    for callback, policy in _protected_views():
        if policy.max_keys_per_scope is not None:
            yield Warning(
                f"The quota of {_name(callback)} is counted by each process for itself.",
                hint="IDEMPOTENCY_QUOTA_CACHE: the alias of a cache that they share, Redis say.",
                id="django_idempotency.W010",
            )


@register(Tags.security)
def check_logins(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """W007: who may not see a view must not get its replies either."""
    for callback in _views():
        if hasattr(callback, "__dict__") and _has_door_above_login(callback):
            yield Warning(
                f"@idempotent is above @login_required on {_name(callback)}.",
                hint="Put it below: logins and permissions are checked before a reply is replayed.",
                id="django_idempotency.W007",
            )
