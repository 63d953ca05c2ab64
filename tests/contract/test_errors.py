"""How a refusal reaches the client (docs/http.rst, The refusal)."""

import json
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client, RequestFactory
from pytest_django import Settings

from django_idempotency import exceptions
from django_idempotency.storage.records import Store
from tests.app import effects
from tests.app.urls import served
from tests.conftest import Post, atomic_requests_on
from tests.support.refusals import REFUSALS, in_progress

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOORS = served("/function/", "/mixin/")
HANDLER = "django_idempotency.rest_framework.problem_details_handler"
ERRORS = {error.code: error for error in exceptions.IdempotencyError.__subclasses__()}
PROGRAMS = ["application/json", "*/*", "application/problem+json, */*"]
# A browser's Accept header, and some odd or invalid ones.
OTHERS = [
    "text/html,*/*;q=0.8",
    "",
    ";",
    "text/html;q=x, */*",
    "text/html;q=0",
    "image/png",
    "a" * 999,
]


@pytest.fixture
def handler(settings: Settings) -> None:
    """REST framework answers with problem details, too."""
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": HANDLER}


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("code", REFUSALS)
def test_refusal_says_what_happened_and_what_to_do(
    code: str, door: str, key: str, post: Post
) -> None:
    """Exactly the members of RFC 9457, ``code`` and ``remedy``; the same at each door."""
    response = REFUSALS[code](post, door, key)
    error = ERRORS[code]
    problem = json.loads(response.content)
    assert response["Content-Type"] == "application/problem+json"
    assert problem == {
        "type": "about:blank",
        "title": str(error.title),
        "status": response.status_code,
        "detail": problem["detail"],
        "code": code,
        "remedy": str(error.remedy),
    }
    assert response.status_code == error.status
    assert problem["detail"].endswith(str(error.advice))
    assert problem["detail"] != str(error.advice)
    seconds = error.retry_after
    assert response.get("Retry-After") == (str(seconds) if seconds else None)
    assert (response.get("Retry-After") is not None) == (problem["remedy"] == "retry_same_key")


def test_every_refusal_is_provoked() -> None:
    """The table above has all of them."""
    assert set(ERRORS) == set(REFUSALS)


def test_problem_details_name_the_error(key: str, post: Post, settings: Settings) -> None:
    """RFC 9457, with the project's own base of ``type``."""
    settings.IDEMPOTENCY_PROBLEM_TYPE_BASE = "https://example.org/problems/"
    post("/function/", key)
    response = post("/function/", key, body={"cake": "carrot"})
    problem = json.loads(response.content)
    assert response["Content-Type"] == "application/problem+json"
    assert problem["code"] == "idempotency_key_reused"
    assert problem["type"] == "https://example.org/problems/idempotency_key_reused"
    assert problem["status"] == response.status_code == 422


@pytest.mark.drf
@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("accept", PROGRAMS)
def test_handler_gives_rest_framework_s_clients_problem_details(
    accept: str, key: str, post: Post
) -> None:
    """The same members as in plain Django; other exceptions are REST framework's."""
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
    assert post("/mixin/", act="crash").status_code == 500


@pytest.mark.drf
@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("code", REFUSALS)
def test_person_at_the_browsable_api_sees_the_problem_in_it(
    code: str, key: str, post: Post
) -> None:
    """REST framework's own page, with the refusal's status and Retry-After."""
    response = REFUSALS[code](post, "/mixin/", key, Accept="text/html,*/*;q=0.8")
    assert response.status_code == ERRORS[code].status
    assert response["Content-Type"].startswith("text/html")
    assert f"&quot;{ERRORS[code].remedy}&quot;".encode() in response.content
    seconds = ERRORS[code].retry_after
    assert response.get("Retry-After") == (str(seconds) if seconds else None)


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("accept", OTHERS)
@pytest.mark.parametrize("door", DOORS)
def test_type_that_cannot_be_rendered_is_a_406(
    accept: str, door: str, key: str, post: Post
) -> None:
    """REST framework answers 406 before the layer looks at the key."""
    response = REFUSALS["idempotency_key_reused"](post, door, key, Accept=accept)
    assert effects.count() == 1
    assert response.status_code in ([422] if door == "/function/" else [422, 406])


def _html_view(code: str) -> Any:
    """A REST framework view that renders HTML and refuses the request."""
    from rest_framework.renderers import TemplateHTMLRenderer
    from rest_framework.views import APIView

    from django_idempotency.http.problems import IdempotencyAPIException

    class Refusing(APIView):
        renderer_classes = (TemplateHTMLRenderer,)

        def post(self, request: Any) -> Any:
            raise IdempotencyAPIException(ERRORS[code]())

    return Refusing.as_view()


@pytest.mark.drf
@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("code", REFUSALS)
def test_rest_framework_s_html_view_gets_the_page(code: str, rf: RequestFactory) -> None:
    """With the template that plain Django uses."""
    response = _html_view(code)(rf.post("/"))
    assert response["Content-Type"].startswith("text/html")
    assert response.status_code == ERRORS[code].status
    assert b"<h1>" in response.content
    assert code.encode() in response.content


@pytest.mark.drf
def test_handler_marks_the_requests_transaction_for_rollback(
    rf: RequestFactory, settings: Settings
) -> None:
    """As REST framework's own handler does with ATOMIC_REQUESTS."""
    from django_idempotency.http.problems import IdempotencyAPIException
    from django_idempotency.rest_framework import problem_details_handler

    error = IdempotencyAPIException(exceptions.KeyReusedError())
    with atomic_requests_on("default"), transaction.atomic():
        problem_details_handler(error, {"request": rf.post("/")})
        assert transaction.get_rollback()


def test_person_gets_a_page(key: str, client: Client) -> None:
    """A browser gets no JSON: the form's field or the Accept header tells."""
    client.post("/form/", {"key": key, "cake": "lemon"})
    response = client.post("/form/", {"key": key, "cake": "carrot"})
    assert effects.count() == 1
    assert response.status_code == 422
    assert response["Content-Type"].startswith("text/html")
    assert b"idempotency_key_reused" in response.content
    response = client.post("/required/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 400
    assert b"<h1>" in response.content


@pytest.mark.parametrize("code", REFUSALS)
def test_page_tells_a_person_what_to_do(code: str, key: str, post: Post) -> None:
    """In words, with status and code; the response varies by Accept, and says so."""
    response = REFUSALS[code](post, "/function/", key, Accept="text/html")
    page = response.content.decode()
    words = {
        "retry_same_key": "reload this page",
        "use_new_key": "Check whether what you wanted has been done",
        "fix_request": "did not arrive complete",
    }
    error = ERRORS[code]
    assert "Accept" in response["Vary"].split(", ")
    assert f"{error.status} {code}" in page
    assert [remedy for remedy, text in words.items() if text in page] == [error.remedy]
    seconds = error.retry_after
    assert response.get("Retry-After") == (str(seconds) if seconds else None)


def test_project_without_templates_answers_a_person_in_problem_details(
    key: str, post: Post, settings: Settings
) -> None:
    """A missing template does not cause a 500."""
    settings.TEMPLATES = []
    response = REFUSALS["idempotency_key_reused"](post, "/function/", key, Accept="text/html")
    assert (response.status_code, response["Content-Type"]) == (422, "application/problem+json")


def test_missing_key_is_refused_where_it_is_required(post: Post) -> None:
    """400, and nothing runs."""
    response = post("/required/")
    assert effects.count() == 0
    assert response.status_code == 400
    assert b"idempotency_key_missing" in response.content


@pytest.mark.parametrize("door", DOORS)
def test_running_request_is_a_409_with_retry_after(door: str, key: str, post: Post) -> None:
    """The view does not run a second time."""
    response = in_progress(post, door, key)
    assert effects.count() == 1
    assert response.status_code == 409
    assert response["Retry-After"] == "1"
    assert response["Idempotency-Key"] == key


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("statement", ["read", "insert", "lock"])
def test_unreachable_store_fails_closed(statement: str, door: str, key: str, post: Post) -> None:
    """503 with Retry-After, and nothing runs."""
    if statement == "read" and connection.vendor == "postgresql":
        pytest.skip("its INSERT also reads the record")
    with patch.object(Store, statement, side_effect=OperationalError("gone")):
        response = post(door, key)
    assert effects.count() == 0
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
