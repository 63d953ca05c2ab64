"""The checks of settings: a wrong one is named, and no check fails because of it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import Client
from django.utils.functional import lazystr
from pytest_django import Settings

from django_idempotency import conf
from django_idempotency.checks import settings as checks
from tests.app import effects

ROOT = Path(__file__).parents[3]

VALUES: dict[str, Any] = {
    "endless": timedelta.max,
    "None": None,
    "bool": True,
    "int": 60,
    "negative": -1,
    "text": "nope",
    "path": "shop.nowhere.scope",
    "bytes": b"nope",
    "lazy": lazystr("nope"),
    "empty": [],
    "list": [1],
    "dict": {"a": 1},
    "object": object(),
    "class": type("Any", (), {}),
}

# For each setting the values above that are right. Codecs, and each of their keys, are E005's.
RIGHT = {
    "HEADER": "text",
    "FIELD": "None text path",
    "GET_KEY": "None class",
    "REQUIRED": "bool",
    "METHODS": "empty",
    "SCOPE": "None class",
    "FINGERPRINT": "None class",
    "FINGERPRINT_HEADERS": "empty",
    "FINGERPRINT_HOST": "bool",
    "RETENTION": "",
    "LEASE": "",
    "WAIT": "None endless",
    "MAX_WAITERS": "int",
    "KEEP_RESPONSE": "None class",
    "ATOMIC": "bool",
    "USING": "None class",
    "MAX_ATTEMPTS": "None int",
    "MAX_RESPONSE_BYTES": "int",
    "REDACT": "None class",
    "MAX_KEYS_PER_SCOPE": "None int",
    "KEEP_REQUEST": "bool",
    "RESPOND": "",
    "BODY_CODEC": "None text path empty",
    "CACHE": "None",
    "CACHE_INFLIGHT": "bool",
    "CACHE_MAX_AGE": "",
    "CACHE_MAX_BYTES": "int",
    "CACHE_RETRY": "",
    "COMPLETER_ATTEMPTS": "int",
    "COMPLETER_REQUEST": "None",
    "CREDENTIAL_HEADERS": "empty",
    "ENABLED": "bool",
    "ENQUEUE": "None",
    "EXEMPT_URLS": "empty",
    "FERNET_KEYS": "None empty list",
    "LOG_KEYS": "bool",
    "MAX_REQUEST_BYTES": "int",
    "MAX_STEP_BYTES": "int",
    "PREPARE": "None bool",
    "PROBLEM_TYPE_BASE": "text path",
    "QUOTA_CACHE": "",
    "REQUEST_HEADERS": "empty",
    "STATISTICS": "bool",
    "STEP_DRIFT": "",
    "URLS": "empty",
}
STORAGE = ("BODY_CODEC", "FERNET_KEYS")


def cases(name: str, *, right: bool) -> Iterator[Any]:
    """The values above that are right for a setting, or wrong for it."""
    return (value for key, value in VALUES.items() if (key in RIGHT[name].split()) is right)


def said() -> str:
    """What ``manage.py check --deploy`` says of errors; empty if there are none."""
    try:
        call_command("check", "django_idempotency", deploy=True)
    except SystemCheckError as error:
        return str(error)
    return ""


def ids(text: str) -> list[str]:
    """The ids of our messages in what a command said."""
    return re.findall(r"\(django_idempotency\.(\w+)\)", text)


@pytest.mark.parametrize("name", ["URLS", "EXEMPT_URLS"])
@pytest.mark.parametrize("pattern", ["/api/", "^/api/", r"\A/api/", r"^\/api/"])
def test_pattern_that_begins_with_a_slash_is_an_error(
    name: str, pattern: str, settings: Settings
) -> None:
    """It would match no path, and the views would run without protection."""
    setattr(settings, f"IDEMPOTENCY_{name}", [r"^shop/", pattern])
    assert ids(said()) == ["E001"]
    with pytest.raises(ImproperlyConfigured, match="without a leading slash"):
        conf.urls() if name == "URLS" else conf.exempt_urls()


def test_slash_elsewhere_in_a_pattern_is_no_error(settings: Settings) -> None:
    """It may stand between two parts of a path."""
    settings.IDEMPOTENCY_URLS = [r"^api/", r"(^|/)orders/", r"[^/]+/pay/"]
    assert said() == ""


def test_every_setting_is_tried() -> None:
    """None is missing in the table above."""
    assert {conf.PREFIX + name for name in RIGHT} == conf.SETTINGS.keys()


@pytest.mark.parametrize("name", RIGHT)
def test_wrong_setting_is_one_error_that_names_it(name: str, settings: Settings) -> None:
    """E001, and no other check stumbles over it."""
    for value in cases(name, right=False):
        setattr(settings, f"IDEMPOTENCY_{name}", value)
        found = said()
        assert ids(found) == ["E001"], value
        assert f"IDEMPOTENCY_{name} must be" in found


@pytest.mark.parametrize("name", RIGHT)
def test_right_setting_is_no_error(name: str, settings: Settings) -> None:
    """Nor does another check stumble over it; a codec or key that is none is E005."""
    for value in cases(name, right=True):
        setattr(settings, f"IDEMPOTENCY_{name}", value)
        assert ids(said()) == (["E005"] if name in STORAGE and value else []), value


@pytest.mark.parametrize("name", RIGHT)
def test_wrong_setting_fails_the_request_before_the_view(name: str, settings: Settings) -> None:
    """Even a setting that would be read only after the COMMIT; no database is asked."""
    for value in cases(name, right=False):
        setattr(settings, f"IDEMPOTENCY_{name}", value)
        with pytest.raises(ImproperlyConfigured, match=f"IDEMPOTENCY_{name} must be"):
            Client().post("/function/?act=order", headers={"Idempotency-Key": "k" * 32})
        assert effects.count() == 0


@pytest.mark.parametrize("command", [["check"], ["migrate", "--check"]], ids=" ".join)
def test_commands_name_every_wrong_setting_without_a_traceback(
    command: list[str], tmp_path: Path
) -> None:
    """In a process of their own, where the settings are wrong from the beginning."""
    (tmp_path / "wrong_settings.py").write_text(
        "from tests.settings import *\n"
        "IDEMPOTENCY_LEASE = 60\n"
        "IDEMPOTENCY_RETENTION = 86400\n"
        'IDEMPOTENCY_USING = "nope"\n'
        'IDEMPOTENCY_SCOPE = "shop.nowhere.scope"\n'
    )
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    ran = subprocess.run(
        [sys.executable, "-m", "django", *command],
        env={**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "wrong_settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert ids(ran.stderr) == ["E001"] * 4
    named = re.findall(r"IDEMPOTENCY_(\w+) must be", ran.stderr)
    assert sorted(named) == ["LEASE", "RETENTION", "SCOPE", "USING"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("tests.nowhere.enqueue", "No module named 'tests.nowhere'"), (".enqueue", "Empty module")],
)
def test_reason_of_a_failed_import_is_shown(path: str, reason: str, settings: Settings) -> None:
    """A module that is there, and cannot import what it needs, is another fault than a typo."""
    settings.IDEMPOTENCY_ENQUEUE = path
    (message,) = checks.check_settings(None)
    assert reason in message.msg


@pytest.mark.parametrize(
    "keys", ["secret", [1, "secret"], {"secret": 1}], ids=["text", "number", "dict"]
)
def test_keys_are_never_shown(keys: Any, settings: Settings) -> None:
    """Neither whole nor as the reason."""
    settings.IDEMPOTENCY_FERNET_KEYS = keys
    found = said()
    assert ids(found) == (["E005"] if isinstance(keys, list) else ["E001"])
    assert "secret" not in found


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RETENTIONS", "Did you mean IDEMPOTENCY_RETENTION?"),
        ("MAX_STEPS_BYTE", "Did you mean IDEMPOTENCY_MAX_STEP_BYTES?"),
        ("KEY_LOCK_BACKEND_NAME_OF_ANOTHER_PACKAGE", "SILENCED_SYSTEM_CHECKS"),
        ("TTL", "SILENCED_SYSTEM_CHECKS"),
        ("X", "SILENCED_SYSTEM_CHECKS"),
    ],
)
def test_foreign_setting_is_a_warning(name: str, hint: str, settings: Settings) -> None:
    """W015: a typo, or another package's while a project moves."""
    setattr(settings, f"IDEMPOTENCY_{name}", object())
    assert said() == ""
    (message,) = (each for each in run_checks() if each.id == "django_idempotency.W015")
    assert message.msg.startswith(f"IDEMPOTENCY_{name} ")
    assert message.hint is not None
    assert hint in message.hint


@pytest.mark.parametrize("headers", [None, 5, [1], "*"])
def test_wrong_setting_of_another_package_is_not_ours(headers: Any, settings: Settings) -> None:
    """The checks of django-cors-headers speak of it."""
    settings.CORS_ALLOW_HEADERS = settings.CORS_EXPOSE_HEADERS = headers
    with patch.object(apps, "is_installed", return_value=True):
        messages = list(checks.check_cors(None))
    assert len(messages) in (0, 2)
