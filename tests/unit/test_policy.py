"""Options: argument, attribute, setting, default; and what is wrong is said at import."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.views import View
from pytest_django import Settings

from django_idempotency.checks import settings as checks
from django_idempotency.decorators import idempotent
from django_idempotency.policy import Policy, resolve

WRONG: dict[str, Any] = {
    "header": "",
    "field": 1,
    "get_key": "x",
    "required": 1,
    "methods": "POST",
    "scope": 3,
    "fingerprint": b"",
    "retention": 60,
    "lease": timedelta(0),
    "wait": timedelta(seconds=-1),
    "keep_response": 1,
    "atomic": None,
    "using": "nowhere",
    "max_attempts": 0,
    "max_response_bytes": -1,
    "redact": 1,
    "max_keys_per_scope": 0,
    "retries": 3,
}


def test_defaults_are_those_of_the_design() -> None:
    """The table of options in the documentation says the same."""
    policy = resolve({})
    assert policy == Policy()
    assert policy.methods == ("POST", "PATCH")
    assert (policy.retention, policy.lease) == (timedelta(hours=24), timedelta(seconds=60))


def test_setting_is_read_at_the_moment_of_use() -> None:
    """``override_settings`` just works, both ways."""
    with override_settings(IDEMPOTENCY_LEASE=timedelta(seconds=5)):
        assert resolve({}).lease == timedelta(seconds=5)
        assert resolve({"lease": timedelta(seconds=7)}).lease == timedelta(seconds=7)
    assert resolve({}).lease == timedelta(seconds=60)


def scope_for_tests(request: HttpRequest) -> str:
    """Named by a setting."""
    return "tests"


def test_callable_setting_is_a_dotted_path(settings: Settings) -> None:
    """Settings hold no functions."""
    settings.IDEMPOTENCY_SCOPE = "tests.unit.test_policy.scope_for_tests"
    assert resolve({}).scope is scope_for_tests


@pytest.mark.parametrize(("option", "value"), WRONG.items(), ids=WRONG)
def test_wrong_argument_fails_at_import(option: str, value: Any) -> None:
    """The decorator refuses unknown names and wrong types."""
    with pytest.raises(ImproperlyConfigured, match=option):
        idempotent(**{option: value})


@pytest.mark.parametrize(("option", "value"), WRONG.items(), ids=WRONG)
def test_wrong_setting_is_found_by_the_checks(option: str, value: Any, settings: Settings) -> None:
    """``manage.py check`` names the setting; one of an unknown name may be another package's."""
    setattr(settings, f"IDEMPOTENCY_{option.upper()}", value)
    (message,) = [*checks.check_settings(None), *checks.check_foreign_settings(None)]
    wanted = "E001" if hasattr(Policy, option) else "W015"
    assert message.id == f"django_idempotency.{wanted}"
    assert option.upper() in message.msg


def test_right_settings_draw_no_message(settings: Settings) -> None:
    """Neither do the two that are no options."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=1)
    settings.IDEMPOTENCY_PROBLEM_TYPE_BASE = "https://example.org/"
    settings.IDEMPOTENCY_CREDENTIAL_HEADERS = ["X-Api-Key"]
    assert list(checks.check_settings(None)) == []


async def coroutine(request: HttpRequest) -> HttpResponse:
    """An async view."""
    return HttpResponse()


class Async(View):
    """An async class-based view."""

    async def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@pytest.mark.parametrize(
    "view", [coroutine, Async, Async.as_view()], ids=["def", "class", "as_view"]
)
def test_async_view_in_a_transaction_is_refused_at_import(view: Any) -> None:
    """A promise that could not be kept is not made."""
    with pytest.raises(ImproperlyConfigured, match="async"):
        idempotent(atomic=True)(view)
