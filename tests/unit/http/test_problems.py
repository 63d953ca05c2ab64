"""The pages that ``type`` points to: one for each code, with the response that the code gives."""

import json
import re
from pathlib import Path

import pytest
from django.http import HttpResponse
from pytest_django import Settings

from django_idempotency.exceptions import IdempotencyError
from tests.conftest import Post
from tests.support.refusals import REFUSALS

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PAGES = Path(__file__).parents[3] / "docs" / "problems"
ERRORS = {error.code: error for error in IdempotencyError.__subclasses__()}
BASE = "https://example.com/problems/"
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
SHOWN = ("Content-Type", "Retry-After", "Idempotency-Key")


def written(response: HttpResponse) -> str:
    """A response in the format of the pages."""
    return "\n".join(
        [
            f"HTTP/1.1 {response.status_code}",
            *(f"{name}: {response[name]}" for name in SHOWN if name in response),
            "",
            json.dumps(json.loads(response.content), indent=2),
        ]
    )


def example_in(page: str) -> str:
    """The response that a page shows."""
    (block,) = re.findall(r"^\.\. code-block:: http\n\n((?:   .*\n|\n)+)", page, re.MULTILINE)
    return re.sub("^   ", "", block, flags=re.MULTILINE).strip()


def test_every_code_has_a_page_and_no_other() -> None:
    """A page is named after its code, so IDEMPOTENCY_PROBLEM_TYPE_BASE + code finds it."""
    pages = {path.stem for path in PAGES.glob("*.rst")} - {"index"}
    assert pages == set(ERRORS)
    listed = re.findall(r"^   (idempotency_\w+)$", (PAGES / "index.rst").read_text(), re.MULTILINE)
    assert set(listed) == set(ERRORS)


@pytest.mark.parametrize("code", REFUSALS)
def test_page_names_the_problem(code: str) -> None:
    """It has the code, title, status and remedy."""
    page, error = (PAGES / f"{code}.rst").read_text(), ERRORS[code]
    assert page.startswith(f"{'=' * len(code)}\n{code}\n{'=' * len(code)}\n\n{error.title}\n")
    assert dict(re.findall(r"^:(\w+): (.+)$", page, re.MULTILINE)) == {
        "Status": str(error.status),
        "Remedy": f"``{error.remedy}``",
    }


@pytest.mark.parametrize("code", REFUSALS)
def test_example_is_what_the_code_answers(code: str, post: Post, settings: Settings) -> None:
    """The example equals the real response."""
    settings.IDEMPOTENCY_PROBLEM_TYPE_BASE = BASE
    response = REFUSALS[code](post, "/function/", KEY)
    assert example_in((PAGES / f"{code}.rst").read_text()) == written(response)
