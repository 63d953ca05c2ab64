"""Proves that the installed package works in a project that has nothing else.

Run by ``tox -e dist`` with the Python of an environment that holds the wheel and what the wheel
asks for, from a folder outside the checkout. It makes a Django project as a reader of the
README would, and calls its one protected view twice.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "django-idempotency"

VIEWS = """
from django.contrib.auth.models import Group
from django.http import HttpRequest, JsonResponse

from django_idempotency.decorators import idempotent


@idempotent
def create(request: HttpRequest) -> JsonResponse:
    group = Group.objects.create(name=f"group {Group.objects.count() + 1}")
    return JsonResponse({"id": group.pk}, status=201)
"""

URLS = """
from django.urls import path

from . import views

urlpatterns = [path("groups/", views.create)]
"""

CALLS = """
from django.contrib.auth.models import Group
from django.test import Client
from django_idempotency.models import IdempotencyRecord

key = {"Idempotency-Key": "d3b07384d113edec49eaa6238ad5ff00"}
call = lambda: Client(headers={"host": "localhost"}).post("/groups/", {"name": "x"}, headers=key)
first, second = call(), call()
assert (first.status_code, second.status_code) == (201, 201), (first, second)
assert "Idempotent-Replayed" not in first, first.headers
assert second["Idempotent-Replayed"] == "true", second.headers
assert first.content == second.content
assert Group.objects.count() == IdempotencyRecord.objects.count() == 1
"""


def installed_from_the_wheel() -> None:
    """The package comes from this environment, and the optional ones are not there."""
    spec = find_spec("django_idempotency")
    assert spec is not None
    assert Path(sys.prefix) in Path(spec.origin or "").parents, spec
    assert find_spec("rest_framework") is None
    assert find_spec("django_redis") is None


def holds_what_it_needs() -> None:
    """Types, templates and migrations are in the wheel; tests and the shop are not."""
    files = {str(file) for file in metadata.files(DISTRIBUTION) or ()}
    assert "django_idempotency/py.typed" in files
    assert "django_idempotency/migrations/0001_initial.py" in files
    assert any(name.startswith("django_idempotency/templates/") for name in files)
    vendored = "django_idempotency/static/django_idempotency/vendor/uplot/"
    assert {
        f"{vendored}uPlot.iife.min.js",
        f"{vendored}uPlot.min.css",
        f"{vendored}LICENSE",
    } <= files
    packages = {name.partition("/")[0] for name in files if "dist-info" not in name}
    assert packages - {".."} == {"django_idempotency"}, packages


def manage(*arguments: str) -> None:
    """Run a management command of the new project, warnings being errors."""
    subprocess.run([sys.executable, "-W", "error", "manage.py", *arguments], check=True)


def a_project_starts() -> None:
    """``startproject``, the app in INSTALLED_APPS, one view."""
    subprocess.run([sys.executable, "-m", "django", "startproject", "mysite", "."], check=True)
    project = Path("mysite")
    with (project / "settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS += ["django_idempotency"]\nALLOWED_HOSTS = ["*"]\n')
        settings.write('MIDDLEWARE.remove("django.middleware.csrf.CsrfViewMiddleware")\n')
    (project / "views.py").write_text(VIEWS)
    (project / "urls.py").write_text(URLS)


def it_checks() -> None:
    """No system check complains."""
    manage("check", "--fail-level", "WARNING")


def it_migrates() -> None:
    """The migrations run, and none is missing."""
    manage("migrate", "--verbosity", "0")
    manage("makemigrations", "--check", "--dry-run", "--verbosity", "0")


def the_second_call_is_a_replay() -> None:
    """One view called twice with one key: one effect, one record, the same reply."""
    manage("shell", "--verbosity", "0", "--command", CALLS)


CHECKS: tuple[Callable[[], None], ...] = (
    installed_from_the_wheel,
    holds_what_it_needs,
    a_project_starts,
    it_migrates,
    it_checks,
    the_second_call_is_a_replay,
)


def main() -> None:
    """Run every check in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for check in CHECKS:
            check()
            print(f"holds: {check.__name__.replace('_', ' ')}", flush=True)
        os.chdir("/")
    print(f"{len(CHECKS)} checks hold")


if __name__ == "__main__":
    main()
