"""How a refusal reaches the client (DESIGN, section 10)."""

import json
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.test import Client
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.store import Store
from tests.app import effects
from tests.app.urls import served
from tests.conftest import Post

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOORS = served("/function/", "/mixin/")


def test_problem_details_name_the_error(key: str, post: Post, settings: Settings) -> None:
    """RFC 9457, with the project's own base for ``type``."""
    settings.IDEMPOTENCY_PROBLEM_TYPE_BASE = "https://example.org/problems/"
    post("/function/", key)
    response = post("/function/", key, body={"cake": "carrot"})
    problem = json.loads(response.content)
    assert response["Content-Type"] == "application/problem+json"
    assert problem["code"] == "idempotency_key_reused"
    assert problem["type"] == "https://example.org/problems/idempotency_key_reused"
    assert problem["status"] == response.status_code == 422


@pytest.mark.drf
@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/problem+json, */*"])
def test_handler_gives_rest_framework_s_clients_problem_details(
    accept: str, key: str, post: Post, settings: Settings
) -> None:
    """The same members as plain Django; other exceptions stay REST framework's."""
    handler = "django_idempotency.rest_framework.problem_details_handler"
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": handler}
    problems = []
    for door in ("/function/", "/mixin/"):
        post(door, key + door[1:5])
        refused = post(door, key + door[1:5], body={"cake": "carrot"}, Accept=accept)
        assert refused["Content-Type"] == "application/problem+json"
        assert refused["Idempotency-Key"] == key + door[1:5]
        problems.append(json.loads(refused.content))
    assert effects.count() == 2
    assert problems[0] == problems[1]
    assert problems[0]["remedy"] == "use_new_key"
    other = post("/mixin/", act="invalid")
    assert (other.status_code, other["Content-Type"]) == (400, "application/json")


def test_person_gets_a_page(key: str, client: Client) -> None:
    """No JSON in a browser: by the form's field, or by what is preferred."""
    client.post("/form/", {"key": key, "cake": "lemon"})
    response = client.post("/form/", {"key": key, "cake": "carrot"})
    assert effects.count() == 1
    assert response.status_code == 422
    assert response["Content-Type"].startswith("text/html")
    assert b"idempotency_key_reused" in response.content
    response = client.post("/required/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 400
    assert b"<h1>" in response.content


def test_missing_key_is_refused_where_it_is_required(post: Post) -> None:
    """400, and nothing runs."""
    response = post("/required/")
    assert effects.count() == 0
    assert response.status_code == 400
    assert b"idempotency_key_missing" in response.content


@pytest.mark.parametrize("door", DOORS)
def test_running_request_is_a_409_with_retry_after(door: str, key: str, post: Post) -> None:
    """And the view does not run."""
    post(door, key)
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS, atomic=False, **dict.fromkeys(answer)
    )
    response = post(door, key)
    assert effects.count() == 1
    assert response.status_code == 409
    assert response["Retry-After"] == "1"
    assert response["Idempotency-Key"] == key


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("statement", ["read", "insert", "lock"])
def test_unreachable_store_fails_closed(statement: str, door: str, key: str, post: Post) -> None:
    """503 with Retry-After; nothing runs."""
    with patch.object(Store, statement, side_effect=OperationalError("gone")):
        response = post(door, key)
        if response.status_code == 201:
            # PostgreSQL looks only where its INSERT was lost.
            effects.log().unlink()
            response = post(door, key)
    assert effects.count() == 0
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
