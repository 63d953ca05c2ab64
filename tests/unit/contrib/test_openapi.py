"""What drf-spectacular's document says about protected operations, for every door."""

import re
import string
from itertools import product
from types import ModuleType
from typing import Any

import pytest
from django.urls import path
from pytest_django import Settings

pytest.importorskip("drf_spectacular")
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from drf_spectacular.validation import validate_schema
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler
from rest_framework.viewsets import ViewSet

from django_idempotency import exceptions
from django_idempotency.contrib import openapi
from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import IdempotencyError, KeyInvalidError
from django_idempotency.http.keys import MAX_LENGTH, PATTERN, parse_header
from django_idempotency.rest_framework import IdempotencyMixin
from tests.app import urls

pytestmark = [pytest.mark.once, pytest.mark.drf]

Schema = dict[str, Any]
# drf-spectacular does not annotate them.
_generator: Any = SchemaGenerator
_validate: Any = validate_schema
PROBLEMS = "django_idempotency.rest_framework.problem_details_handler"


@pytest.fixture
def problems(settings: Settings) -> None:
    """Settings under which refusals are problem details."""
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": PROBLEMS}


def schema_of(*views: Any) -> Schema:
    """The valid document for views at ``/0/``, ``/1/`` and so on."""
    urlconf: Any = ModuleType("described")
    urlconf.urlpatterns = [path(f"{number}/", view) for number, view in enumerate(views)]
    schema: Schema = _generator(urlconf=urlconf).get_schema(public=True)
    _validate(schema)
    return schema


def operation_of(view: Any, method: str = "post") -> Schema:
    """The description of one view's method."""
    found: Schema = schema_of(view)["paths"]["/0/"][method]
    return found


def key_headers(operation: Schema) -> dict[str, Schema]:
    """The request headers of an operation, by name."""
    return {
        each["name"]: each for each in operation.get("parameters", []) if each["in"] == "header"
    }


def is_protected(operation: Schema) -> bool:
    """Whether the operation is fully described; fails if only a part of it is."""
    responses = operation["responses"]
    success = next(iter(responses))
    said = [
        "Idempotency-Key" in key_headers(operation),
        {"400", "409", "410", "422", "503"} <= set(responses),
        "Retry-After" in responses.get("409", {}).get("headers", {}),
        "Retry-After" in responses.get("503", {}).get("headers", {}),
        {"Idempotent-Replayed", "Idempotency-Key"} <= set(responses[success].get("headers", {})),
    ]
    assert len(set(said)) == 1, said
    return said[0]


class Api(APIView):
    """An unprotected view with every method."""

    def get(self, request: Any) -> Any:
        return Response()

    post = put = patch = delete = get


class Covered(IdempotencyMixin, Api):
    """Protected."""


def covered(**options: Any) -> Any:
    """A protected view with these options."""
    return idempotent(**options)(type("Api", (Api,), {})).as_view()


@pytest.mark.parametrize("door", urls.API_DOORS)
def test_every_door_is_described(door: str) -> None:
    """POST is protected, GET is not."""
    schema = schema_of(urls.API_DOORS[door])["paths"]["/0/"]
    assert is_protected(schema["post"])
    assert not is_protected(schema["get"])


@pytest.mark.parametrize(
    ("view", "method"),
    [
        (urls.OTHERS["viewset/free"], "post"),
        (covered(methods=()), "post"),
        (covered(methods=("PUT",)), "post"),
        (idempotent(methods=())(Covered.as_view()), "put"),
        (Api.as_view(), "post"),
        (Covered.as_view(), "put"),
    ],
    ids=["action", "class", "other-method", "outside", "without", "put"],
)
def test_what_is_not_covered_stays_as_it_is(view: Any, method: str) -> None:
    """A method that has opted out, or was never protected."""
    plain: Schema = schema_of(Api.as_view())["paths"]["/0/"][method]
    operation = operation_of(view, method)
    assert not is_protected(operation)
    assert set(operation["responses"]) <= set(plain["responses"]) | {"200", "201"}


@pytest.mark.parametrize("method", ["put", "delete"])
def test_methods_come_from_the_policy(method: str) -> None:
    """The methods that the policy names are described."""
    assert is_protected(operation_of(covered(methods=("PUT", "DELETE")), method))


def test_settings_of_the_project_are_read(settings: Settings) -> None:
    """The settings are the doors' defaults."""
    settings.IDEMPOTENCY_REQUIRED = True
    settings.IDEMPOTENCY_HEADER = "X-Key"
    assert key_headers(operation_of(covered()))["X-Key"]["required"] is True


def test_middleware_is_a_door(settings: Settings) -> None:
    """It covers the URLs that the project names; a view's own options win."""
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django_idempotency.middleware.IdempotencyMiddleware",
    ]
    settings.IDEMPOTENCY_EXEMPT_URLS = ["^1/"]
    paths = schema_of(Api.as_view(), Api.as_view(), covered(methods=()))["paths"]
    assert [is_protected(paths[f"/{n}/"]["post"]) for n in range(3)] == [True, False, False]


@pytest.mark.parametrize("required", [True, False])
def test_key_is_required_where_the_view_requires_it(required: bool) -> None:
    """Only then can the refusal for a missing key occur."""
    operation = operation_of(covered(required=required))
    assert key_headers(operation)["Idempotency-Key"].get("required", False) is required
    assert ("idempotency_key_missing" in str(operation["responses"]["400"])) is required


@pytest.mark.parametrize(
    ("options", "counted"),
    [({"max_attempts": 3}, True), ({"respond": "accepted"}, True), ({}, False)],
)
def test_attempts_can_be_exhausted_where_they_are_counted(options: Schema, counted: bool) -> None:
    """By the view or by completers; without a limit, the refusal is not documented."""
    refusal = operation_of(covered(**options))["responses"]["409"]
    assert ("idempotency_attempts_exhausted" in refusal["description"]) is counted


@pytest.mark.parametrize("quota", [3, None])
def test_quota_can_be_exceeded_where_there_is_one(quota: int | None) -> None:
    """429 with Retry-After; without a quota, the refusal is not documented."""
    refusal = operation_of(covered(max_keys_per_scope=quota))["responses"].get("429", {})
    assert ("Retry-After" in refusal.get("headers", {})) is (quota is not None)


@pytest.mark.parametrize("atomic", [False, True])
def test_steps_can_fail_where_the_view_commits_by_itself(atomic: bool) -> None:
    """409 and 503 are documented; an atomic view has no steps that could fail."""
    responses = operation_of(covered(atomic=atomic))["responses"]
    for status, name in (
        ("409", "operation_failed"),
        ("409", "outcome_unknown"),
        ("503", "operation_pending"),
    ):
        assert (f"idempotency_{name}" in responses[status]["description"]) is not atomic
    assert "Retry-After" in responses["503"]["headers"]


@pytest.mark.parametrize("options", [{"header": ["A-Key", "B-Key"]}, {"field": "key"}])
def test_one_of_several_places_is_required(options: Schema) -> None:
    """OpenAPI cannot say that one of several is required, so the description does."""
    operation = operation_of(covered(required=True, **options))
    names = options.get("header", ["Idempotency-Key"])
    assert list(key_headers(operation)) == names
    for header in key_headers(operation).values():
        assert "required" not in header
        assert "One of them is required." in header["description"]
    assert set(names) < set(operation["responses"]["200"]["headers"])


def _key(request: Any) -> str:
    return "key"


class KeyMethod(IdempotencyMixin, Api):
    """A view that takes the key from elsewhere."""

    def get_idempotency_key(self, request: Any) -> str:
        return "key"


@pytest.mark.parametrize("view", [covered(get_key=_key), KeyMethod.as_view()])
def test_key_from_elsewhere_needs_no_header(view: Any) -> None:
    """Neither in the request nor in the response; the rest is described as usual."""
    operation = operation_of(view)
    assert key_headers(operation) == {}
    assert set(operation["responses"]["200"]["headers"]) == {"Idempotent-Replayed"}
    assert {"400", "409", "410", "422", "503"} < set(operation["responses"])


def test_options_of_an_outer_door_are_those_of_the_view() -> None:
    """The inner door's options win, as in a request."""
    inner = idempotent(header="Inner-Key")(Api.as_view())
    operation = operation_of(idempotent(header="Outer-Key", required=True)(inner))
    assert key_headers(operation)["Inner-Key"]["required"] is True


def test_view_that_takes_no_options_is_described_by_its_own_doors() -> None:
    """Options that its constructor does not know must not break the document."""

    class Strict(Api):
        def __init__(self) -> None:
            super().__init__()

    assert not is_protected(operation_of(idempotent(Strict.as_view())))


def _hidden(options: Schema) -> Any:
    @api_view(["POST"])
    @idempotent(**options)
    def view(request: Any) -> Any:
        return Response()

    return view


def test_door_below_api_view_is_stronger_than_one_above() -> None:
    """The inner door wins, although REST framework hides it."""
    assert "Its-Own" in key_headers(operation_of(idempotent(_hidden({"header": "Its-Own"}))))
    assert not is_protected(operation_of(idempotent(_hidden({"methods": ()}))))


@pytest.mark.parametrize("respond", ["result", "accepted"])
def test_request_can_be_accepted_where_the_view_accepts(respond: str) -> None:
    """202 is documented, with the address of the operation's state."""

    @idempotent(respond=respond)
    @api_view(["POST"])
    def order(request: Any) -> Response:
        return Response()

    responses = operation_of(order)["responses"]
    assert ("202" in responses) == (respond == "accepted")
    if respond == "accepted":
        assert set(responses["202"]["headers"]) == {"Location", "Retry-After"}
        assert "application/json" in responses["202"]["content"]


def test_pattern_of_the_key_is_what_the_parser_takes() -> None:
    """For bare and quoted keys, over the alphabet that matters."""
    alphabet = ['"', "\\", ",", ";", " ", "a", "~", "\x7f", "é", ""]
    for letters in product(alphabet, repeat=4):
        line = "".join(letters)
        if line == line.strip():
            assert bool(re.search(PATTERN, line)) == _is_key(line), line
    for letter in string.printable.strip():
        assert bool(re.search(PATTERN, letter)) == _is_key(letter), letter
    assert _is_key("a" * MAX_LENGTH)
    assert not _is_key("a" * (MAX_LENGTH + 1))


def _is_key(line: str) -> bool:
    try:
        return bool(parse_header(line))
    except KeyInvalidError:
        return False


def test_every_error_is_described() -> None:
    """A new error cannot be forgotten."""
    found = [error for error in vars(exceptions).values() if isinstance(error, type)]
    ours = {error for error in found if issubclass(error, IdempotencyError)}
    assert set(exceptions.REFUSALS) == ours - {IdempotencyError}
    assert len(exceptions.REFUSALS) == len(set(exceptions.REFUSALS))


def test_refusals_have_the_body_of_rest_framework(settings: Settings) -> None:
    """In the media types that the view renders."""
    schema = schema_of(covered())
    content = schema["paths"]["/0/"]["post"]["responses"]["422"]["content"]
    ref = {"$ref": "#/components/schemas/IdempotencyRefusal"}
    assert {media_type: body["schema"] for media_type, body in content.items()} == {
        "application/json": ref
    }
    component = schema["components"]["schemas"]["IdempotencyRefusal"]
    assert component["required"] == ["detail"]
    example = content["application/json"]["examples"]["idempotency_key_reused"]["value"]
    assert set(example) == {"detail"}


@pytest.mark.usefixtures("problems")
def test_refusals_may_be_problem_details() -> None:
    """Codes and remedies are enumerated, each in one component."""
    schema = schema_of(covered(required=True, max_attempts=3, max_keys_per_scope=3, atomic=False))
    components = schema["components"]["schemas"]
    assert components["IdempotencyCode"]["enum"] == [error.code for error in exceptions.REFUSALS]
    assert set(components["IdempotencyRemedy"]["enum"]) == {e.remedy for e in exceptions.REFUSALS}
    responses = schema["paths"]["/0/"]["post"]["responses"]
    examples: Schema = {}
    for status in ("400", "409", "410", "422", "429", "503"):
        (body,) = responses[status]["content"].values()
        assert list(responses[status]["content"]) == ["application/problem+json"]
        assert body["schema"] == {"$ref": "#/components/schemas/IdempotencyProblem"}
        examples |= {code: (status, each["value"]) for code, each in body["examples"].items()}
    for error in exceptions.REFUSALS:
        status, example = examples.pop(error.code)
        assert str(example["status"]) == status == str(error.status)
        assert set(example) == set(components["IdempotencyProblem"]["required"])
    assert not examples


def _own_handler(exception: Exception, context: Schema) -> Any:
    return exception_handler(exception, context)


def test_refusals_of_an_unknown_handler_are_not_guessed(settings: Settings) -> None:
    """Any body is allowed, unless the project says more."""
    handler = f"{__name__}._own_handler"
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": handler}
    content = operation_of(covered())["responses"]["409"]["content"]
    assert content == {"application/json": {"schema": {}}}


class OwnSchema(openapi.AutoSchema):
    """A project's schema class."""

    def get_refusal_content(self, errors: openapi.Errors) -> Schema:
        return {"text/plain": {"schema": {"type": "string"}}}


def test_project_may_describe_its_refusals() -> None:
    """By overriding one method."""
    view = type("Own", (Covered,), {"schema": OwnSchema()}).as_view()
    assert list(operation_of(view)["responses"]["503"]["content"]) == ["text/plain"]


class RichBase(AutoSchema):
    """A project's base class, which describes what serializers cannot say."""

    def get_override_parameters(self) -> list[Any]:
        return [OpenApiParameter("X-Cook", str, OpenApiParameter.HEADER)]

    def _get_response_bodies(self, *args: Any, **kwargs: Any) -> Schema:
        busy = {"description": "Busy.", "links": {"again": {"operationId": "again"}}}
        headers = {"Retry-After": {"schema": {"type": "string"}}}
        reply = {"description": "Done.", "headers": {"Idempotency-Key": {"schema": {}}}}
        shared = {"$ref": "#/components/responses/Gone"}
        return {"200": reply, "302": shared, "409": {**busy, "headers": headers}, "422": shared}


class RichWithMixin(openapi.AutoSchemaMixin, RichBase):
    """The same base class with the mixin."""


def test_mixin_keeps_what_its_base_says() -> None:
    """Parameters, links, headers and shared replies."""
    operation = operation_of(type("Own", (Covered,), {"schema": RichWithMixin()}).as_view())
    assert list(key_headers(operation)) == ["Idempotency-Key", "X-Cook"]
    responses = operation["responses"]
    assert responses["409"]["links"] == {"again": {"operationId": "again"}}
    assert responses["409"]["headers"]["Retry-After"] == {"schema": {"type": "string"}}
    assert responses["200"]["headers"]["Idempotency-Key"] == {"schema": {}}
    assert responses["302"] == responses["422"] == {"$ref": "#/components/responses/Gone"}


class Mistake(serializers.Serializer[Any]):
    """An error of the author's own."""

    mistake = serializers.CharField()


def documented(view: Any, **said: Any) -> Schema:
    """The operation of a covered view that its author has described."""
    return operation_of(extend_schema(**said)(type("Api", (view,), {})).as_view())


def test_what_the_author_says_of_a_status_stays() -> None:
    """The layer's description is added to it."""
    mine = OpenApiResponse(Mistake, "No such cake.")
    responses = documented(Covered, responses={201: Mistake, 404: mine, 409: mine})["responses"]
    assert list(responses) == ["201", "400", "404", "409", "410", "422", "503"]
    schemas = responses["409"]["content"]["application/json"]["schema"]["anyOf"]
    assert schemas == [
        {"$ref": "#/components/schemas/Mistake"},
        {"$ref": "#/components/schemas/IdempotencyRefusal"},
    ]
    assert responses["409"]["description"].startswith("No such cake.\n\n`idempotency_in_progress`")
    assert set(responses["409"]["headers"]) == {"Retry-After"}
    assert "headers" not in responses["400"]


@pytest.mark.usefixtures("problems")
def test_other_media_type_of_the_author_stays() -> None:
    """The layer's media type is added to it."""
    content = documented(Covered, responses={200: None, 409: Mistake})["responses"]["409"][
        "content"
    ]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Mistake"}
    assert set(content) == {"application/json", "application/problem+json"}


@pytest.mark.parametrize("status", ["4XX", "default"])
def test_range_of_the_author_is_copied_to_our_statuses(status: str) -> None:
    """A range would be ignored beside a single status, so its reply is copied there."""
    responses = documented(Covered, responses={"200": None, status: Mistake})["responses"]
    assert "anyOf" in responses["409"]["content"]["application/json"]["schema"]
    assert status in responses


def test_replies_that_are_kept_say_that_they_may_be_replays() -> None:
    """A 404 is an outcome; a 403 and a 500 are not."""
    statuses = ["201", "2XX", "302", "403", "404", "422", "500", "default"]
    responses = documented(Covered, responses=dict.fromkeys(statuses, OpenApiTypes.OBJECT))[
        "responses"
    ]
    marked = {s for s in statuses if "Idempotent-Replayed" in responses[s].get("headers", {})}
    assert marked == {"201", "2XX", "302", "404"}


def test_author_may_describe_the_header() -> None:
    """The author's description of the header stays, or its absence."""
    header = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="Mine.")
    assert key_headers(documented(Covered, parameters=[header]))["Idempotency-Key"][
        "description"
    ] == ("Mine.")
    none = OpenApiParameter("Idempotency-Key", location=OpenApiParameter.HEADER, exclude=True)
    assert key_headers(documented(Covered, parameters=[none])) == {}


def test_hand_written_and_hidden_operations_are_left_alone() -> None:
    """Nothing is added to them."""
    mine = {"operationId": "mine", "responses": {"200": {"description": "Mine."}}}

    class Written(Covered):
        @extend_schema(operation=mine)
        def post(self, request: Any) -> Any:
            return Response()

    class Hidden(Covered):
        @extend_schema(exclude=True)
        def post(self, request: Any) -> Any:
            return Response()

    paths = schema_of(Written.as_view(), Hidden.as_view())["paths"]
    assert paths["/0/"]["post"] == mine
    assert "post" not in paths["/1/"]


def test_names_of_the_project_s_enumerations_stay(problems: None) -> None:
    """The project may have its own ``code`` and ``status``."""

    class Ticket(serializers.Serializer[Any]):
        code = serializers.ChoiceField(["a", "b"])
        status = serializers.ChoiceField(["new", "old"])

    view = extend_schema(request=Ticket, responses=Ticket)(type("Api", (Covered,), {})).as_view()
    components = schema_of(view)["components"]["schemas"]
    assert {"CodeEnum", "StatusEnum"} < set(components)


@extend_schema(responses={202: OpenApiTypes.OBJECT})
@idempotent
@api_view(["POST"])
def extended_outside(request: Any) -> Any:
    return Response()


@idempotent
@extend_schema(responses={202: OpenApiTypes.OBJECT})
@api_view(["POST"])
def extended_inside(request: Any) -> Any:
    return Response()


class Extended(ViewSet):
    """A view described above and below the door."""

    @extend_schema(responses={202: OpenApiTypes.OBJECT})
    @idempotent
    def create(self, request: Any) -> Any:
        return Response()

    @idempotent
    @extend_schema(responses={202: OpenApiTypes.OBJECT})
    def update(self, request: Any) -> Any:
        return Response()


@pytest.mark.parametrize(
    "view",
    [
        extended_outside,
        extended_inside,
        Extended.as_view({"post": "create"}),
        Extended.as_view({"post": "update"}),
    ],
    ids=["outside", "inside", "above", "below"],
)
def test_extend_schema_works_above_and_below_the_door(view: Any) -> None:
    """Both decorators are read."""
    operation = operation_of(view)
    assert "202" in operation["responses"]
    assert is_protected(operation)
