"""The pytest fixtures, and that projects which do not use them are not affected by the plugin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from django_idempotency import testing
from django_idempotency.testing import IdempotencyClient, assert_replayed
from tests.app import effects
from tests.app.models import Order

pytestmark = pytest.mark.once

CLIENTS = {
    "idempotency_client": "IdempotencyClient",
    "idempotency_async_client": "IdempotencyAsyncClient",
    "idempotency_api_client": "IdempotencyAPIClient",
}

# A project without Django: one test, which looks at what was loaded.
STRANGER = """
import sys

def test_arithmetic(request):
    assert request.config.pluginmanager.has_plugin("django_idempotency")
    assert [name for name in sys.modules if name.partition(".")[0] == "django"] == []
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a process that does not know this project's settings."""
    unknown = ("DJANGO_", "IDEMPOTENCY_", "PYTEST_", "COVERAGE_")
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(unknown)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_project_without_django_does_not_notice(tmp_path: Path) -> None:
    """The plugin is registered, and Django is not loaded."""
    (tmp_path / "test_stranger.py").write_text(STRANGER)
    run = run_pytest(tmp_path, "-p", "no:django")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout


@pytest.mark.slow
def test_empty_folder_is_no_failure(tmp_path: Path) -> None:
    """With pytest-django and no settings, an empty run ends as it should."""
    run = run_pytest(tmp_path)
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, run.stdout + run.stderr


@pytest.mark.slow
def test_every_fixture_explains_itself(tmp_path: Path) -> None:
    """In the list that ``pytest --fixtures`` prints."""
    listed = run_pytest(tmp_path, "--fixtures").stdout
    for name in (*CLIENTS, "idempotency_off"):
        head, _, text = listed.partition(f"\n{name} -- ")[2].partition("\n    ")
        assert "contrib/pytest.py" in head
        assert text.splitlines()[0].endswith(".")


@pytest.mark.django_db
def test_client_is_new_and_sends_keys(idempotency_client: IdempotencyClient) -> None:
    """It is the client of ``django_idempotency.testing``."""
    assert idempotency_client.last_key == ""
    idempotency_client.post("/required/")
    assert_replayed(idempotency_client.repeat())
    assert Order.objects.count() == effects.count() == 1


@pytest.mark.parametrize("fixture", CLIENTS)
def test_every_client_has_a_fixture(request: pytest.FixtureRequest, fixture: str) -> None:
    """Django's two, and REST framework's where that is installed."""
    if fixture == "idempotency_api_client":
        pytest.importorskip("rest_framework")
    assert type(request.getfixturevalue(fixture)) is getattr(testing, CLIENTS[fixture])


@pytest.mark.django_db
@pytest.mark.usefixtures("idempotency_off")
def test_protection_is_off(client: Client) -> None:
    """A required key is not required, and a repeated key runs twice."""
    for _ in "12":
        response = client.post("/required/", headers={"Idempotency-Key": "k" * 16})
    assert Order.objects.count() == effects.count() == 2
    assert response.status_code == client.post("/required/").status_code == 201


@pytest.mark.django_db
def test_protection_is_on_again(client: Client) -> None:
    """After the test that switched it off."""
    assert client.post("/required/").status_code == 400
