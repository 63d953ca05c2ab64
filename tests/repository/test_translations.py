"""German and French: every text that the package marks is translated, compiled and shown."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polib
import pytest
from django.utils import translation
from django.utils.translation import ngettext
from django.utils.translation.template import templatize
from pytest_django import Settings

import django_idempotency
from django_idempotency.models import IdempotencyRecord, Status
from tests.app.urls import served
from tests.conftest import Post
from tests.support.refusals import REFUSALS

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PACKAGE = Path(django_idempotency.__file__).parent
CATALOGUES = sorted(PACKAGE.glob("locale/*/LC_MESSAGES/django.po"))
TITLES = {
    "de": "Die erste Anfrage wird noch bearbeitet.",
    "de-AT": "Die erste Anfrage wird noch bearbeitet.",
    "fr": "La première requête est encore en cours.",
    "pl": "The first request is still running.",
}
HEADINGS = {
    "de": "Bitte versuchen Sie es gleich noch einmal",
    "fr": "Veuillez réessayer dans un instant",
    "en": "Please try again in a moment",
}

# A text to translate: its context, itself, its plural; and the functions that mark one.
Text = tuple[str | None, str, str]
MARKS: dict[str, Callable[..., Text]] = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy"), lambda text: (None, text, "")),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), lambda text, many, *_: (None, text, many)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), lambda context, text: (context, text, "")),
}


def _sources() -> Iterator[str]:
    """The package's modules, and the marks in its templates as the calls they stand for."""
    for path in PACKAGE.rglob("*.py"):
        yield path.read_text()
    for path in PACKAGE.rglob("templates/**/*.*"):
        yield "\n".join(re.findall(r"\w*gettext\(.+?'\)", templatize(path.read_text())))


def _calls() -> Iterator[tuple[str, list[Any]]]:
    for node in (node for source in _sources() for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, [getattr(argument, "value", None) for argument in node.args]


def marked() -> set[Text]:
    """Every text that the package marks for translation."""
    return {MARKS[name](*arguments) for name, arguments in _calls() if name in MARKS}


def test_german_and_french_are_shipped() -> None:
    """Both of them."""
    assert {"de", "fr"} <= {path.parts[-3] for path in CATALOGUES}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_catalogue_has_every_marked_text_and_no_other(path: Path) -> None:
    """If not: ``make messages``, and then the translator."""
    entries = {(entry.msgctxt, entry.msgid, entry.msgid_plural) for entry in polib.pofile(path)}
    assert marked() - entries == set()
    assert entries - marked() == set()


def _placeholders(text: str) -> list[str]:
    return re.findall(r"%\(?\w+\)?s?|\{\w*\}", text)


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_catalogue_is_complete(path: Path) -> None:
    """Nothing is empty, fuzzy or obsolete, in all plural forms, and placeholders are kept."""
    catalogue = polib.pofile(path)
    (plurals,) = re.findall(r"nplurals=(\d+)", catalogue.metadata["Plural-Forms"])
    for entry in catalogue:
        texts = entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr]
        assert all(texts), entry.msgid
        assert not entry.fuzzy, entry.msgid
        assert not entry.obsolete, entry.msgid
        assert not entry.msgid_plural or len(texts) == int(plurals), entry.msgid
        assert {*map(tuple, map(_placeholders, texts))} == {(*_placeholders(entry.msgid),)}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_compiled_catalogue_is_that_of_the_texts(path: Path) -> None:
    """If not: ``make messages``, which compiles."""

    def texts(entries: Iterable[polib.MOEntry | polib.POEntry]) -> dict[Any, Any]:
        return {(e.msgctxt, e.msgid): (e.msgstr, e.msgstr_plural) for e in entries}

    assert texts(polib.mofile(str(path.with_suffix(".mo")))) == texts(polib.pofile(path))


@pytest.fixture
def locale(settings: Settings) -> None:
    """Requests in German are answered in German, in both frameworks."""
    handler = "django_idempotency.rest_framework.problem_details_handler"
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": handler}
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]


@pytest.mark.usefixtures("locale")
@pytest.mark.parametrize("language", TITLES)
@pytest.mark.parametrize("door", served("/function/", "/mixin/"))
def test_problem_speaks_the_client_s_language(
    door: str, language: str, key: str, post: Post
) -> None:
    """Title and detail; code and remedy stay what they are."""
    headers = {"Accept-Language": language}
    problem = REFUSALS["idempotency_in_progress"](post, door, key, **headers).json()
    assert problem["title"] == TITLES[language]
    assert (problem["code"], problem["remedy"]) == ("idempotency_in_progress", "retry_same_key")
    english = "Wait a moment" in problem["detail"]
    assert english == (language == "pl")


@pytest.mark.usefixtures("locale")
@pytest.mark.parametrize("code", REFUSALS)
def test_every_refusal_is_translated(code: str, key: str, post: Post) -> None:
    """No text is left in English."""
    problems = [
        REFUSALS[code](post, "/function/", key + language, **{"Accept-Language": language}).json()
        for language in ("en", "de", "fr")
    ]
    for member in ("title", "detail"):
        assert len({problem[member] for problem in problems}) == 3


@pytest.mark.usefixtures("locale")
@pytest.mark.parametrize(("asked", "spoken"), [("de", "de"), ("fr-CA", "fr"), ("pl", "en")])
def test_page_speaks_and_names_the_language_of_its_texts(
    asked: str, spoken: str, key: str, post: Post
) -> None:
    """A screen reader learns the language, also where there is no translation."""
    headers = {"Accept": "text/html", "Accept-Language": asked}
    response = REFUSALS["idempotency_in_progress"](post, "/function/", key, **headers)
    page = response.content.decode()
    assert response["Content-Language"] == asked.partition("-")[0]
    assert f'<html lang="{spoken}">' in page
    assert f"<h1>{HEADINGS[spoken]}</h1>" in page


@pytest.mark.drf
@pytest.mark.usefixtures("locale")
def test_browsable_api_speaks_german(key: str, post: Post) -> None:
    """The page of the other framework."""
    headers = {"Accept": "text/html", "Accept-Language": "de"}
    response = REFUSALS["idempotency_in_progress"](post, "/mixin/", key, **headers)
    assert response["Content-Type"].startswith("text/html")
    assert TITLES["de"] in response.content.decode()


def test_admin_speaks_german() -> None:
    """Names of the model, its fields and its statuses."""
    with translation.override("de"):
        assert str(IdempotencyRecord._meta.verbose_name_plural) == "Idempotenz-Datensätze"
        assert str(Status.RELEASED.label) == "freigegeben"
        assert ngettext("%d key expired.", "%d keys expired.", 2) == "%d Schlüssel sind abgelaufen."
