"""The kitchen in coroutines, which Django does not let into ATOMIC_REQUESTS."""

import asyncio
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.views import IdempotencyMixin

from .views import kitchen

akitchen = sync_to_async(kitchen)


@transaction.non_atomic_requests
@idempotent
async def function(request: Any) -> Any:
    """The bare decorator."""
    return await akitchen(request)


class Plain(View):
    """Django's own class-based view with coroutines as handlers."""

    async def get(self, request: Any) -> Any:
        return await akitchen(request)

    async def post(self, request: Any) -> Any:
        return await akitchen(request)


@idempotent
class Decorated(Plain):
    """The decorator on a class."""


class Mixin(IdempotencyMixin, Plain):
    """The mixin."""


class Method(View):
    """The decorator on a method."""

    async def get(self, request: Any) -> Any:
        return await akitchen(request)

    @idempotent
    async def post(self, request: Any) -> Any:
        return await akitchen(request)


@method_decorator(idempotent, name="dispatch")
class DispatchDecorator(Plain):
    """Django's method_decorator on dispatch."""


@idempotent
async def slow(request: Any) -> Any:
    """Sleeps before the effect and after it."""
    await asyncio.sleep(0.2)
    response = await akitchen(request)
    await asyncio.sleep(0.2)
    return response


@idempotent(lease=timedelta(seconds=1))
async def hangs_once(request: Any) -> Any:
    """The first attempt never ends, and a test can wait for the end of the lease."""
    if request.idempotency.attempt == 1:
        await asyncio.sleep(3600)
    return await akitchen(request)


OTHERS = {"async-slow": csrf_exempt(slow), "async-hangs-once": csrf_exempt(hangs_once)}
DOORS = {
    "async-function": function,
    **{
        f"async-{name}": transaction.non_atomic_requests(view)
        for name, view in {
            "class": Decorated.as_view(),
            "mixin": Mixin.as_view(),
            "method": Method.as_view(),
            "as-view": idempotent(Plain.as_view()),
            "dispatch-decorator": DispatchDecorator.as_view(),
        }.items()
    },
}
