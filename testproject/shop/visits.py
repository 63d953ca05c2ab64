"""What the shop remembers of a browser: who it is, how its reception is, how its orders went.

It lives in a signed cookie, not in the session: a visit survives logging in, and nothing about
the tunnel is ever part of the orders that are sent through it.
"""

import enum
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.core import signing
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_idempotency.operation import Operation

_COOKIE = "shop_visit"
_COOKIE_SECONDS = 30 * 24 * 3600


class Reception(enum.StrEnum):
    """Whether replies reach the visitor."""

    GOOD = "good"
    # In the tunnel: the next reply gets lost.
    NONE = "none"
    # Still in the tunnel, next to an opening: the next reply gets through, then NONE again.
    BRIEF = "brief"


class Reply(enum.StrEnum):
    """What came back for the last order sent through a door."""

    LOST = "lost"
    FIRST = "first"
    REPLAYED = "replayed"
    REFUSED = "refused"


@dataclass
class Visit:
    """One browser's stay in the shop."""

    visitor: uuid.UUID = field(default_factory=uuid.uuid4)
    reception: Reception = Reception.GOOD
    replies: dict[str, str] = field(default_factory=dict)

    @property
    def in_tunnel(self) -> bool:
        """Whether the visitor has gone into the tunnel."""
        return self.reception is not Reception.GOOD

    def loses_a_reply(self) -> bool:
        """Whether the reply that is coming back now gets lost; the tunnel rolls on."""
        lost = self.reception is Reception.NONE
        if self.in_tunnel:
            self.reception = Reception.BRIEF if lost else Reception.NONE
        return lost


class ShopRequest(HttpRequest):
    """A request after :class:`~testproject.shop.middleware.VisitMiddleware`; in covered views."""

    visit: Visit
    idempotency: Operation


def _from_parts(parts: dict[str, Any]) -> Visit:
    return Visit(uuid.UUID(parts["visitor"]), Reception(parts["reception"]), parts["replies"])


def read(request: HttpRequest) -> Visit:
    """The visit the request belongs to; a new one without a cookie the shop has signed."""
    try:
        return _from_parts(signing.loads(request.COOKIES[_COOKIE], salt=_COOKIE))
    except (KeyError, ValueError, signing.BadSignature):
        return Visit()


def write(visit: Visit, response: HttpResponseBase) -> None:
    """Have the browser remember the visit."""
    parts = {
        "visitor": str(visit.visitor),
        "reception": visit.reception,
        "replies": visit.replies,
    }
    response.set_cookie(
        _COOKIE,
        signing.dumps(parts, salt=_COOKIE),
        max_age=_COOKIE_SECONDS,
        httponly=True,
        samesite="Lax",
    )
