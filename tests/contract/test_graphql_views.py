"""Strawberry's views answer in ``dispatch``: the real package, sync and async."""

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import path

from django_idempotency.decorators import idempotent
from tests.app import effects

pytest.importorskip("strawberry")
import strawberry
from strawberry.django.views import AsyncGraphQLView, GraphQLView

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]
required = idempotent(required=True)


@strawberry.type
class Query:
    """GraphQL wants one."""

    cakes: int = 0


@strawberry.type
class Mutation:
    """What is sold."""

    @strawberry.mutation
    def order(self) -> str:
        """An effect, and a reply that is never the same."""
        nonce = uuid.uuid4().hex
        effects.happened(nonce)
        return nonce


SCHEMA = strawberry.Schema(query=Query, mutation=Mutation)
urlpatterns = [
    path("graphql/", required(GraphQLView.as_view(schema=SCHEMA))),
    path("async-graphql/", required(AsyncGraphQLView.as_view(schema=SCHEMA))),
]


@pytest.mark.parametrize("url", ["/graphql/", "/async-graphql/"])
def test_repeated_mutation_runs_once(url: str, key: str) -> None:
    """Another mutation under the key is refused, and so is one without a key."""

    def post(query: str, **headers: str) -> Any:
        body = {"query": query}
        return Client().post(url, body, content_type="application/json", headers=headers)

    sent = {"Idempotency-Key": key}
    first, again = (post("mutation { order }", **sent) for _ in range(2))
    other, keyless = post("mutation { again: order }", **sent), post("mutation { order }")
    assert effects.count() == 1
    assert (first.status_code, again.content) == (200, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert (other.status_code, keyless.status_code) == (422, 400)
