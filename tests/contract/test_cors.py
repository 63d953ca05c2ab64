"""Scripts of another site can send a key, and read the headers of a replay."""

import pytest
from django.test import Client
from pytest_django import Settings

from django_idempotency.checks.settings import check_cors
from tests.app import effects

ORIGIN = "https://shop.example"

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def cors(settings: Settings) -> Settings:
    """The settings of django-cors-headers that the checks' hints recommend."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "corsheaders"]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]
    settings.CORS_ALLOW_HEADERS = ["content-type", "idempotency-key"]
    settings.CORS_EXPOSE_HEADERS = ["Idempotent-Replayed", "Retry-After"]
    return settings


def found(settings: Settings) -> list[str]:
    """The ids of the messages of the check."""
    return [(message.id or "")[-4:] for message in check_cors(None)]


def test_projects_without_cors_get_no_warning(settings: Settings) -> None:
    """The app may be missing."""
    assert found(settings) == []


def test_header_that_browsers_may_not_send_draws_a_warning(cors: Settings) -> None:
    """W002, unless the header is listed in any case."""
    assert found(cors) == []
    cors.CORS_ALLOW_HEADERS = ["content-type"]
    assert found(cors) == ["W002"]
    cors.CORS_ALLOW_HEADERS = ["Idempotency-KEY"]
    assert found(cors) == []
    cors.IDEMPOTENCY_HEADER = ["Idempotency-Key", "X-Request-Key"]
    assert found(cors) == ["W002"]


def test_headers_that_scripts_may_not_read_draw_a_warning(cors: Settings) -> None:
    """W003."""
    del cors.CORS_EXPOSE_HEADERS
    assert found(cors) == ["W003"]


def test_preflight_lets_the_key_pass_and_replays_can_be_read(cors: Settings, key: str) -> None:
    """The browser's request before the real one, and the headers that it shows to the script."""
    client = Client()
    asked = client.options(
        "/function/",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "idempotency-key",
        },
    )
    assert "idempotency-key" in asked["Access-Control-Allow-Headers"]
    headers = {"Origin": ORIGIN, "Idempotency-Key": key}
    first, again = (client.post("/function/", headers=headers) for _ in range(2))
    assert effects.count() == 1
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" in again["Access-Control-Expose-Headers"]
    assert first["Access-Control-Allow-Origin"] == again["Access-Control-Allow-Origin"] == ORIGIN
