"""SECRET_KEY changes while workers run: entries signed with the old one count, or are absent."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from django_idempotency.models import IdempotencyRecord
from tests.app import effects
from tests.support.live import gunicorn

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("cached_in_processes"),
]

OLD, NEW = "the-old-secret", "the-new-secret"
#: The body that the record gets, so that a reply shows where it comes from.
FROM_DATABASE = b"from the database"


@contextmanager
def workers(folder: Path, monkeypatch: pytest.MonkeyPatch, *secrets: str) -> Iterator[str]:
    """Two workers whose SECRET_KEY is the first of ``secrets``; the others are its fallbacks."""
    monkeypatch.setenv("IDEMPOTENCY_TEST_SECRETS", ",".join(secrets))
    with gunicorn(folder, workers=2, threads=2) as address:
        yield address


def order(address: str, key: str) -> tuple[bytes, bool]:
    """The body of a 201, and whether it was a replay."""
    caller = HTTPConnection(urlsplit(address).netloc, timeout=30)
    # One site, on whichever port its workers listen.
    caller.request("POST", "/exempt/", b"{}", {"Host": "testserver", "Idempotency-Key": key})
    response = caller.getresponse()
    body = response.read()
    caller.close()
    assert response.status == 201
    return body, response.headers.get("Idempotent-Replayed") == "true"


def test_workers_with_the_old_key_as_a_fallback_use_its_entries(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are old workers, then old and new ones side by side, then only new ones."""
    with workers(tmp_path, monkeypatch, OLD) as old:
        first, _ = order(old, key)
        IdempotencyRecord.objects.update(response_body=FROM_DATABASE)
        with workers(tmp_path, monkeypatch, NEW, OLD) as new:
            assert [order(new, key) for _ in range(10)] == [(first, True)] * 10
            # The old workers cannot verify what the new ones write: they ask the database.
            second, _ = order(new, f"{key}-2")
            IdempotencyRecord.objects.update(response_body=FROM_DATABASE)
            assert order(new, f"{key}-2") == (second, True)
            assert order(old, f"{key}-2") == (FROM_DATABASE, True)
    assert effects.count() == 2


def test_workers_without_the_old_key_ask_the_database(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old entry counts as absent; the one that they fill counts."""
    with workers(tmp_path, monkeypatch, OLD) as old:
        first, _ = order(old, key)
        assert order(old, key) == (first, True)
        IdempotencyRecord.objects.update(response_body=FROM_DATABASE)
        assert order(old, key) == (first, True)
    with workers(tmp_path, monkeypatch, NEW) as new:
        assert order(new, key) == (FROM_DATABASE, True)
        IdempotencyRecord.objects.update(response_body=b"changed once more")
        assert [order(new, key) for _ in range(10)] == [(FROM_DATABASE, True)] * 10
    assert effects.count() == 1
