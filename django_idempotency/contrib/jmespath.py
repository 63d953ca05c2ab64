"""A part of the body as key or fingerprint, named by a JMESPath expression (https://jmespath.org).

For the options ``get_key`` and ``fingerprint``. It stands apart because it needs jmespath, which
the package does not.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jmespath
from django.core.exceptions import BadRequest, ImproperlyConfigured
from django.http import QueryDict
from jmespath.exceptions import JMESPathError

from ..http.fingerprint import digest, fingerprint_of, head_of, is_form, is_json, parse
from ..http.requests import form_fields, http_request, is_rest_framework
from ..policy import Policy


def _fields(form: Any) -> Any:
    """A form as an object: a field sent once is its value, one sent more often a list of them."""
    if not isinstance(form, QueryDict):
        return form
    # In REST framework the files are among them.
    lists: Any = form.lists()
    texts = {name: [value for value in values if isinstance(value, str)] for name, values in lists}
    return {name: values[0] if len(values) == 1 else values for name, values in texts.items()}


def _body_of(request: Any) -> Any:
    """What the body means; None where nobody knows."""
    if is_rest_framework(request):
        parse(request)
        return _fields(request.data)
    if is_form(request):
        return _fields(form_fields(request))
    try:
        return json.loads(request.body) if is_json(request) else None
    except (ValueError, RecursionError) as error:
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
    """Whether the body has none of the things that were looked for."""
    things = part.values() if isinstance(part, dict) else part if isinstance(part, list) else [part]
    return all(thing is None for thing in things)


def _text_of(part: Any) -> str:
    if isinstance(part, str):
        return part
    # Not isinstance(): True is no number here.
    return str(part) if type(part) is int else hashlib.sha256(_canonical(part)).hexdigest()


def body_key(expression: str) -> Callable[[Any], str | None]:
    """For ``get_key``: the key is what ``expression`` finds in the body, an event's id say.

    A text or a whole number is the key; anything else becomes its SHA-256, so that
    ``[order, day]`` names one intent. A request in whose body nothing is found has no key. The body
    is JSON or a form, or in REST framework whatever its parsers make of it; one that cannot be
    parsed is refused with 400. Raises ImproperlyConfigured for an expression that is none.
    """
    find = _finder(expression)

    def get_key(request: Any) -> str | None:
        part = find(request)
        return None if _is_nothing(part) else _text_of(part)

    return get_key


def body_fingerprint(expression: str) -> Callable[[Any], bytes]:
    """For ``fingerprint``: method, path, query and what ``expression`` finds in the body count.

    So ``[cake, amount]`` lets a client change its time stamp between retries. Where nothing is
    found the whole request is compared: no two are equal because neither had any of it. Raises
    ImproperlyConfigured for an expression that is none.
    """
    find = _finder(expression)

    def fingerprint(request: Any) -> bytes:
        part = find(request)
        if _is_nothing(part):
            return fingerprint_of(request, Policy())
        return digest((*head_of(http_request(request)), b"part", _canonical(part)))

    return fingerprint
