"""The kitchen behind Django Ninja's hook for view decorators."""

from typing import Any, ClassVar

from django.contrib.auth.models import User
from ninja import NinjaAPI
from ninja.decorators import decorate_view
from ninja.security import HttpBearer

from django_idempotency.decorators import idempotent

from .aviews import akitchen
from .views import kitchen

api = NinjaAPI(urls_namespace="ninja-doors", docs_url=None, openapi_url=None)


class Tokens(HttpBearer):
    """Tokens that can be revoked, and the number of times one was looked at."""

    valid: ClassVar[set[str]] = set()
    looks: ClassVar[int] = 0

    def authenticate(self, request: Any, token: str) -> str | None:
        Tokens.looks += 1
        return token if token in self.valid else None


@api.api_operation(["GET", "POST"], "/door/")
@decorate_view(idempotent)
def door(request: Any) -> Any:
    """The hook."""
    return kitchen(request)


@api.post("/token/", auth=Tokens())
@decorate_view(idempotent)
def token(request: Any) -> Any:
    """Behind a token."""
    return kitchen(request)


class Members(HttpBearer):
    """Tokens that name a user, and that are refreshed now and then."""

    def authenticate(self, request: Any, token: str) -> Any:
        return User.objects.filter(username=token.partition(".")[0]).first()


@api.post("/member/", auth=Members())
@decorate_view(idempotent)
def member(request: Any) -> Any:
    """Behind a token that names its user."""
    return kitchen(request)


@api.post("/async/")
@decorate_view(idempotent)
async def coroutine(request: Any) -> Any:
    """A coroutine."""
    return await akitchen(request)
