"""What the rings share: an effects log, ATOMIC_REQUESTS on and off, and a client with keys."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models.signals import post_migrate
from django.http import HttpResponse
from django.test import Client
from django.utils import translation

Post = Callable[..., HttpResponse]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Django REST framework its tests are skipped, and the summary says so."""
    if find_spec("rest_framework") is None:
        for item in items:
            if item.get_closest_marker("drf"):
                item.add_marker(pytest.mark.skip(reason="needs Django REST framework"))


def _forget_content_types(**kwargs: Any) -> None:
    """A flush takes the rows away that Django remembers."""
    ContentType.objects.clear_cache()


@pytest.fixture(scope="session", autouse=True)
def lean_flush() -> None:
    """After each flush Django makes all permissions anew, which took most of the suite's time."""
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
    post_migrate.disconnect(create_contenttypes)
    post_migrate.connect(_forget_content_types)


def staff(*permissions: str) -> User:
    """Somebody who may do just that in the admin, named as in ``view_idempotencyrecord``."""
    user = User.objects.create(username="_".join(("staff", *permissions)), is_staff=True)
    models = {m._meta.model_name: m for m in apps.get_app_config("django_idempotency").get_models()}
    for codename in permissions:
        # Those that are not Django's own are the record's: "expire".
        model = models.get(codename.rpartition("_")[2], models["idempotencyrecord"])
        kind = ContentType.objects.get_for_model(model)
        user.user_permissions.add(
            Permission.objects.get_or_create(codename=codename, content_type=kind)[0]
        )
    return user


@pytest.fixture(autouse=True)
def default_language() -> Iterator[None]:
    """What LocaleMiddleware activates in one test is not spoken in the next."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def effects_log(tmp_path: Path) -> Iterator[Path]:
    """An empty log of effects for each test."""
    os.environ["EFFECTS_LOG"] = str(tmp_path / "effects.log")
    yield tmp_path / "effects.log"
    del os.environ["EFFECTS_LOG"]


@contextmanager
def atomic_requests_on(*aliases: str) -> Iterator[None]:
    """ATOMIC_REQUESTS for these databases, in this thread."""
    for alias in aliases:
        connections[alias].settings_dict["ATOMIC_REQUESTS"] = True
    try:
        yield
    finally:
        for alias in aliases:
            connections[alias].settings_dict["ATOMIC_REQUESTS"] = False


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def atomic_requests(request: pytest.FixtureRequest) -> Iterator[bool]:
    """ATOMIC_REQUESTS off and on."""
    with atomic_requests_on(*(["default"] if request.param else [])):
        yield request.param


@pytest.fixture
def key() -> str:
    """A fresh key."""
    return uuid.uuid4().hex


@pytest.fixture
def post() -> Post:
    """POST JSON, with a key if one is given; a view's exception becomes a 500."""
    client = Client(raise_request_exception=False)

    def send(
        path: str, key: str | None = None, *, act: str = "order", body: Any = None, **headers: str
    ) -> HttpResponse:
        if key is not None:
            headers["Idempotency-Key"] = key
        url = f"{path}?act={act}"
        data = {"cake": "lemon"} if body is None else body
        sent: Any = client.post(url, data, content_type="application/json", headers=headers)
        return sent  # type: ignore[no-any-return]

    return send
