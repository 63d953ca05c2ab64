"""Keys and fingerprints from a part of the body that a JMESPath expression selects.

For the options ``get_key`` and ``fingerprint``. The language: https://jmespath.org.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jmespath
from django.core.exceptions import BadRequest, ImproperlyConfigured
from django.http import QueryDict
from jmespath.exceptions import JMESPathError

from ..http.bodies import is_form, is_json, parse
from ..http.fingerprint import digest, fingerprint_of, head_of
from ..http.requests import form_fields, http_request, is_rest_framework
from ..policy import Policy

# How senders label JSON, AWS SNS for example; what is labelled otherwise is not looked into.
_MAY_BE_JSON = ("", "text/plain", "text/json", "application/x-json", "application/octet-stream")


def _fields(form: Any) -> Any:
    """A form as an object: a field sent once is a value, a field sent more often a list."""
    if not isinstance(form, QueryDict):
        return form
    # In REST framework the form's files are among its fields.
    lists: Any = form.lists()
    texts = {name: [value for value in values if isinstance(value, str)] for name, values in lists}
    return {name: values[0] if len(values) == 1 else values for name, values in texts.items()}


def _body_of(request: Any) -> Any:
    """The parsed body; None if it is neither JSON nor a form. Raises BadRequest for broken JSON."""
    if is_rest_framework(request):
        parse(request)
        return _fields(request.data)
    if is_form(request):
        return _fields(form_fields(request))
    if not is_json(request) and request.content_type not in _MAY_BE_JSON:
        return None
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as error:
        if not is_json(request):
            return None
        raise BadRequest("The body is no JSON.") from error


def _finder(expression: str) -> Callable[[Any], Any]:
    try:
        compiled = jmespath.compile(expression)
    except JMESPathError as error:
        raise ImproperlyConfigured(f"{expression!r} is no JMESPath expression: {error}") from error

    def find(request: Any) -> Any:
        try:
            return compiled.search(_body_of(request))
        except JMESPathError as error:
            raise BadRequest(f"The body does not suit {expression!r}.") from error

    return find


def _canonical(part: Any) -> bytes:
    return json.dumps(part, sort_keys=True, separators=(",", ":")).encode()


def _is_nothing(part: Any) -> bool:
    """Whether the body has nothing of what the expression selects."""
    things = part.values() if isinstance(part, dict) else part if isinstance(part, list) else [part]
    return all(thing is None for thing in things)


def _text_of(part: Any) -> str:
    if isinstance(part, str):
        return part
    # Not isinstance(), because True is an int.
    return str(part) if type(part) is int else hashlib.sha256(_canonical(part)).hexdigest()


def body_key(expression: str) -> Callable[[Any], str | None]:
    """For ``get_key``: the key is what ``expression`` finds in the body, such as an event's id.

    A text or a whole number is used as it is; of anything else the key is the SHA-256, so that
    ``[order, day]`` is one intent. A request has no key if nothing is found in its body. The body
    is JSON or a form, or what REST framework's parsers make of it; a body that cannot be parsed
    gets 400. Raises ImproperlyConfigured for an invalid expression.
    """
    find = _finder(expression)

    def get_key(request: Any) -> str | None:
        part = find(request)
        return None if _is_nothing(part) else _text_of(part)

    return get_key


def body_fingerprint(expression: str) -> Callable[[Any], bytes]:
    """For ``fingerprint``: requests differ by method, path, query and what ``expression`` finds.

    With ``[cake, amount]``, for example, a client may change a time stamp between retries. If
    nothing is found in the body, the whole request is compared, so that two requests are not equal
    because both lack it. Raises ImproperlyConfigured for an invalid expression.
    """
    find = _finder(expression)

    def fingerprint(request: Any) -> bytes:
        part = find(request)
        if _is_nothing(part):
            return fingerprint_of(request, Policy())
        return digest((*head_of(http_request(request)), b"part", _canonical(part)))

    return fingerprint
