"""What the rings share: an effects log, ATOMIC_REQUESTS on and off, and a client with keys."""

import gc
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.http import HttpResponse
from django.test import Client, TransactionTestCase
from django.utils import translation

from tests.support.flushing import flush_all

# Asserts in these modules show what they compared, as those in tests do.
pytest.register_assert_rewrite(
    *("tests.crash.stories", "tests.support.forks"),
    *(f"tests.durable.{name}" for name in ("books", "customers", "finishing", "victim")),
)

Post = Callable[..., HttpResponse]

_number = count()


def pytest_addoption(parser: pytest.Parser) -> None:
    """For runs on a database that plays no other part behind other doors."""
    parser.addoption("--few-doors", action="store_true", help="the contract for some of the doors")


def pytest_collection_finish() -> None:
    """The garbage collector need not scan thousands of tests each time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Django REST framework its tests are skipped, and the summary says so."""
    if find_spec("rest_framework") is None:
        for item in items:
            if item.get_closest_marker("drf"):
                item.add_marker(pytest.mark.skip(reason="needs Django REST framework"))


@pytest.fixture(scope="session", autouse=True)
def lean_flush() -> Iterator[None]:
    """After each test only what it wrote is deleted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", flush_all)
        patch.setattr(TransactionTestCase, "_should_reload_connections", lambda case: False)
        yield


def staff(*permissions: str) -> User:
    """A user with these permissions in the admin, named as in ``view_idempotencyrecord``."""
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


@pytest.fixture(scope="session")
def effects_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the logs of effects are: ``tmp_path`` would be a folder, and its removal, a test."""
    return tmp_path_factory.mktemp("effects")


@pytest.fixture(autouse=True)
def effects_log(effects_folder: Path) -> Iterator[Path]:
    """An empty log of effects for each test."""
    log = effects_folder / f"{next(_number)}.log"
    os.environ["EFFECTS_LOG"] = str(log)
    yield log
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
