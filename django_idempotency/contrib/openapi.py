"""Protected operations in an OpenAPI document, for drf-spectacular.

The schema class reads each view's policy, whichever door set it, and adds the key's header, the
refusals and the replay's header. What the view's author has documented stays.
"""

from collections.abc import Collection
from itertools import groupby
from typing import TYPE_CHECKING, Any

from drf_spectacular import openapi
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter
from rest_framework.views import exception_handler

from .. import middleware
from ..doors.policies import described_policy
from ..exceptions import (
    REFUSALS,
    AttemptsExhaustedError,
    IdempotencyError,
    KeyMissingError,
    OperationFailedError,
    OperationPendingError,
    OutcomeUnknownError,
    QuotaExceededError,
    Remedy,
)
from ..http.keys import MAX_LENGTH, PATTERN
from ..http.problems import PROBLEM_TYPE, problem_details
from ..http.responses import NO_OUTCOME, REPLAYED_HEADER
from ..policy import Options, Policy
from ..rest_framework import problem_details_handler
from ..status.state import State

if TYPE_CHECKING:
    from drf_spectacular.openapi import AutoSchema as _Base
else:
    _Base = object

Schema = dict[str, Any]
Errors = Collection[type[IdempotencyError]]

_KEY: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": PATTERN}
_REPLAYED: Schema = {
    "description": "Stands here when this is the reply to an earlier request with the same key.",
    "schema": {"type": "string", "enum": ["true"]},
}
_ECHO: Schema = {"description": "The key, as it was sent.", "schema": {"type": "string"}}
_RETRY_AFTER: Schema = {
    "description": "After so many seconds the same request may be sent again, with the same key.",
    "schema": {"type": "integer", "minimum": 0},
}
_LOCATION: Schema = {
    "description": "Where to ask for the operation's state and, in the end, its response.",
    "schema": {"type": "string", "format": "uri-reference"},
}


def _enum(members: Collection[str]) -> Schema:
    return {"type": "string", "enum": list(members)}


# The enumerations are components with names of their own: drf-spectacular's hook would name them
# after their properties, and the project may have a "code" as well.
_CODES = "IdempotencyCode", _enum([error.code for error in REFUSALS])
_REMEDIES = "IdempotencyRemedy", _enum([remedy.value for remedy in Remedy])


def _errors_of(policy: Policy) -> Errors:
    """The refusals that a client of this operation may see."""
    never = {
        KeyMissingError: not policy.required,
        AttemptsExhaustedError: policy.max_attempts is None and policy.respond == "result",
        QuotaExceededError: policy.max_keys_per_scope is None,
        # Only views that commit by themselves have steps; which of them do, the policy cannot say.
        OperationFailedError: policy.atomic,
        OutcomeUnknownError: policy.atomic,
        OperationPendingError: policy.atomic,
    }
    return [error for error in REFUSALS if not never.get(error)]


def _header_of(policy: Policy, name: str) -> OpenApiParameter:
    ways = [*policy.headers, *([f"form field {policy.field}"] if policy.field else [])]
    others = [way for way in ways if way != name]
    description = (
        f"A key of your own making, 1 to {MAX_LENGTH} visible ASCII characters, a UUID for example."
        " Send it again with the same request, and the first reply comes back."
    )
    if others:
        description += f" It may also come as {' or '.join(others)}."
    if others and policy.required:
        description += " One of them is required."
    return OpenApiParameter(
        name,
        type=_KEY,
        location=OpenApiParameter.HEADER,
        required=policy.required and not others,
        description=description,
    )


def _either(theirs: Schema, ours: Schema) -> Schema:
    """One media type of a reply that both the view and the layer may give."""
    if "schema" not in theirs or theirs["schema"] == ours["schema"]:
        return theirs
    both = {**theirs, "schema": {"anyOf": [theirs["schema"], ours["schema"]]}}
    if "example" not in theirs:
        both["examples"] = {**theirs.get("examples", {}), **ours.get("examples", {})}
    return both


def _merged(theirs: Schema, ours: Schema) -> Schema:
    """One reply, described both by the view's author and by the layer."""
    if "$ref" in theirs:
        return theirs
    content = dict(theirs.get("content", {}))
    for media_type, body in ours["content"].items():
        content[media_type] = _either(content[media_type], body) if media_type in content else body
    descriptions = [str(theirs.get("description") or ""), ours["description"]]
    merged = {**theirs, "description": "\n\n".join(filter(None, descriptions)), "content": content}
    if headers := {**ours.get("headers", {}), **theirs.get("headers", {})}:
        merged["headers"] = headers
    return merged


def _documented(responses: Schema, status: str) -> Schema:
    """The author's reply for this status, or for a range; beside ours a range would be ignored."""
    names = (status, f"{status[0]}XX", "default")
    return next((responses[name] for name in names if name in responses), {})


def _may_be_replayed(status: str) -> bool:
    if not status.isdecimal():
        return status in ("2XX", "3XX")
    return int(status) < 500 and int(status) not in NO_OUTCOME


class AutoSchemaMixin(_Base):
    """Describes protected operations; for projects with their own ``AutoSchema``."""

    def get_refusal_content(self, errors: Errors) -> Schema:
        """The bodies of refusals by media type, as the view's exception handler makes them.

        A project overrides this if its handler is neither REST framework's nor
        :func:`~django_idempotency.rest_framework.problem_details_handler`.
        """
        handler = self.view.get_exception_handler()
        if handler is problem_details_handler:
            return {PROBLEM_TYPE: self._problems(errors)}
        body = self._details(errors) if handler is exception_handler else {"schema": {}}
        return dict.fromkeys(self.map_renderers("media_type"), body)

    def get_operation(self, *args: Any, **kwargs: Any) -> Schema | None:
        operation = super().get_operation(*args, **kwargs)
        policy = self._policy()
        if operation and policy is not None:
            self._mark_replays(operation["responses"], policy)
            self._add_refusals(operation["responses"], policy)
            if policy.respond == "accepted":
                self._add_acceptance(operation["responses"])
            operation["responses"] = dict(sorted(operation["responses"].items()))
        return operation

    def get_override_parameters(self) -> list[Any]:
        policy = self._policy()
        headers = policy.headers if policy is not None and policy.get_key is None else ()
        ours = [_header_of(policy, name) for name in headers if policy is not None]
        return [*super().get_override_parameters(), *ours]

    def _policy(self) -> Policy | None:
        outside: list[Options] = [{}] if middleware.covers(self.path) else []
        return described_policy(self.view, self.method, outside)

    def _mark_replays(self, responses: Schema, policy: Policy) -> None:
        names = policy.headers if policy.get_key is None else ()
        headers = {REPLAYED_HEADER: _REPLAYED, **dict.fromkeys(names, _ECHO)}
        for status, reply in responses.items():
            if _may_be_replayed(status) and "$ref" not in reply:
                reply["headers"] = {**headers, **reply.get("headers", {})}

    def _add_refusals(self, responses: Schema, policy: Policy) -> None:
        for status, errors in groupby(_errors_of(policy), lambda error: str(error.status)):
            refusal = self._refusal(list(errors))
            responses[status] = _merged(_documented(responses, status), refusal)

    def _add_acceptance(self, responses: Schema) -> None:
        members = {
            "id": {"type": "string", "format": "uuid"},
            "state": _enum([State.ACCEPTED.value]),
            "url": {"type": "string", "format": "uri-reference"},
        }
        operation = {"type": "object", "properties": members, "required": list(members)}
        ref = self._component("IdempotencyAcceptedOperation", operation)
        acceptance = {
            "description": "The request is stored and will be run; Location tells how far it came.",
            "headers": {"Location": _LOCATION, "Retry-After": _RETRY_AFTER},
            "content": {"application/json": {"schema": ref}},
        }
        responses["202"] = _merged(_documented(responses, "202"), acceptance)

    def _refusal(self, errors: Errors) -> Schema:
        may_be_retried = any(error.retry_after is not None for error in errors)
        headers = {"headers": {"Retry-After": _RETRY_AFTER}} if may_be_retried else {}
        return {
            **headers,
            "description": " ".join(f"`{error.code}`: {error.title}" for error in errors),
            "content": self.get_refusal_content(errors),
        }

    def _details(self, errors: Errors) -> Schema:
        """The bodies that REST framework's own exception handler makes."""
        detail = {"type": "object", "properties": {"detail": {"type": "string"}}}
        ref = self._component("IdempotencyRefusal", {**detail, "required": ["detail"]})
        examples = {error.code: {"value": {"detail": error().detail}} for error in errors}
        return {"schema": ref, "examples": examples}

    def _problems(self, errors: Errors) -> Schema:
        """The bodies that ``problem_details_handler`` makes."""
        text: Schema = {"type": "string"}
        members = {
            "type": {**text, "format": "uri-reference"},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "code": self._component(*_CODES),
            "remedy": self._component(*_REMEDIES),
        }
        problem = {"type": "object", "properties": members, "required": list(members)}
        examples = {error.code: {"value": problem_details(error())} for error in errors}
        return {"schema": self._component("IdempotencyProblem", problem), "examples": examples}

    def _component(self, name: str, schema: Schema) -> Schema:
        component = ResolvedComponent(name, ResolvedComponent.SCHEMA, schema, object=name)  # type: ignore[no-untyped-call]
        self.registry.register_on_missing(component)
        return component.ref


class AutoSchema(AutoSchemaMixin, openapi.AutoSchema):
    """drf-spectacular's ``AutoSchema`` that also describes protected operations."""
