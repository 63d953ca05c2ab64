"""System checks of the views behind the project's URLs: their options and their doors."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from .. import conf
from ..doors.marks import MARK, mark_of, unwrapped, view_class_of
from ..doors.policies import described_policy, handler_of
from ..engine.atomic_requests import owns_transactions
from ..models import IdempotencyRecord
from ..policy import Policy, resolve
from .caches import is_of_one_process
from .databases import atomic_aliases
from .settings import check

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


def _covered_handlers(cls: type[Any], callback: Any) -> Iterator[tuple[Any, Policy]]:
    """The handlers of a class that a door covers, with their policies."""
    given = getattr(callback, "initkwargs", None) or getattr(callback, "view_initkwargs", {})
    view = cls(**given)
    view.action_map = getattr(callback, "actions", None)
    for method in view.http_method_names:
        policy = described_policy(view, method.upper())
        if policy is not None:
            yield handler_of(view, method.upper()), policy


def _policy_of(callback: Any) -> Policy | None:
    """The policy of a view that has a door of its own, by whichever method; None without one."""
    options = mark_of(callback).options
    cls = view_class_of(callback)
    policy = resolve(options) if options is not None else None
    if policy is None and cls is not None:
        policy = next((policy for _, policy in _covered_handlers(cls, callback)), None)
    return policy.for_a_coroutine() if policy and iscoroutinefunction(callback) else policy


def _name(callback: Any) -> str:
    return f"{callback.__module__}.{getattr(callback, '__qualname__', type(callback).__qualname__)}"


def _protected_views() -> Iterator[tuple[Any, Policy]]:
    """Every view with a door, and its policy; without those that E007 refuses."""
    for callback in _views():
        with suppress(ImproperlyConfigured):
            if policy := _policy_of(callback):
                yield callback, policy


@register(Tags.urls)
def check_middleware(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """E004: no middleware comes after this package's, which calls function views itself."""
    if _MIDDLEWARE in settings.MIDDLEWARE and settings.MIDDLEWARE[-1] != _MIDDLEWARE:
        yield Error(
            f"{_MIDDLEWARE} is not the last of MIDDLEWARE.",
            hint="What comes later, CSRF protection say, would not see function views.",
            id="django_idempotency.E004",
        )


@check(Tags.urls)
def check_options(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """E007: the options that ``as_view()`` gives a view are what they must be."""
    for callback in _views():
        try:
            _policy_of(callback)
        except ImproperlyConfigured as error:
            yield Error(
                f"The options of {_name(callback)} are refused: {error}",
                hint="Until then each of its requests is a 500, and the view does not run.",
                id="django_idempotency.E007",
            )


@check(Tags.urls)
def check_leases(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W004: a reply is replayed for longer than its claim was trusted."""
    for callback, policy in _protected_views():
        if policy.lease > policy.retention:
            yield Warning(
                f"{_name(callback)} has a lease longer than its retention.",
                hint="lease: how long a claim is trusted. retention: how long a reply is replayed.",
                id="django_idempotency.W004",
            )


@check(Tags.urls)
def check_databases_of_views(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W005: a view's records are in the database of its requests' transactions."""
    atomic = atomic_aliases()
    for callback, policy in _protected_views():
        using = policy.using or router.db_for_write(IdempotencyRecord)
        if policy.atomic and atomic and isinstance(using, str) and using not in atomic:
            yield Warning(
                f'{_name(callback)} keeps its records in "{using}", and ATOMIC_REQUESTS is on for'
                f" {', '.join(sorted(atomic))}.",
                hint="Keep them where the view writes (option using): one COMMIT for both.",
                id="django_idempotency.W005",
            )


@check(Tags.urls)
def check_hidden_doors(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W006: under ATOMIC_REQUESTS a claim does not join Django's transaction."""
    atomic = atomic_aliases()
    for callback, policy in _protected_views():
        kept_apart = atomic <= set(getattr(callback, "_non_atomic_requests", ()))
        if policy.atomic and not kept_apart and not owns_transactions(callback):
            yield Warning(
                f"The door of {_name(callback)} is hidden, so its claims join the transaction of"
                " ATOMIC_REQUESTS: nobody sees them run, and failed attempts are not counted.",
                hint="Put @idempotent on the class or above @api_view, or use the mixin.",
                id="django_idempotency.W006",
            )


def _has_status_url() -> bool:
    try:
        return bool(reverse("django_idempotency:operation", args=[UUID(int=0)]))
    except NoReverseMatch:
        return False


@check(Tags.urls)
def check_accepting_views(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """E006: a client whose request was accepted has a URL to ask for its state."""
    for callback, policy in _protected_views():
        if policy.respond == "accepted" and not _has_status_url():
            yield Error(
                f'{_name(callback)} has respond="accepted", and there is no URL for operations.',
                hint='Add path("", include("django_idempotency.urls")), or api_urls, to the URLs.',
                id="django_idempotency.E006",
            )


def _has_door_above_login(callback: Any) -> bool:
    cls = view_class_of(callback)
    if cls is None:
        return MARK in getattr(callback, "__dict__", {}) and _is_login_inside(callback)
    with suppress(ImproperlyConfigured):
        return any(_is_login_inside(handler) for handler, _ in _covered_handlers(cls, callback))
    return False


def _is_login_inside(view: Any) -> bool:
    """Whether a login is asked for below the door, which may be around all of the view."""
    # wraps() copies what a decorator leaves outwards: the innermost that has it is its own.
    doors, logins = [0], [-1]
    for depth, each in enumerate(unwrapped(view)):
        doors += [depth] * (MARK in getattr(each, "__dict__", {}))
        logins += [depth] * hasattr(each, "login_url")
    return logins[-1] >= doors[-1]


@check(Tags.caches, deploy=True)
def check_quotas(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W010: a quota is counted in a cache that all processes share."""
    is_alone = is_of_one_process(conf.quota_cache())
    for callback, policy in _protected_views():
        if is_alone and policy.max_keys_per_scope is not None:
            yield Warning(
                f"The quota of {_name(callback)} is counted by each process for itself.",
                hint="IDEMPOTENCY_QUOTA_CACHE: the alias of a cache that they share, Redis say.",
                id="django_idempotency.W010",
            )


@register(Tags.security)
def check_logins(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W007: a caller who may not see a view gets no replay of its replies."""
    for callback in _views():
        if _has_door_above_login(callback):
            yield Warning(
                f"@idempotent is above @login_required on {_name(callback)}.",
                hint="Put it below: logins and permissions are checked before a reply is replayed.",
                id="django_idempotency.W007",
            )
