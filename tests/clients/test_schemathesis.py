"""The shop's API keeps to its schema, whatever schemathesis sends.

It makes ``IDEMPOTENCY_TEST_EXAMPLES`` examples for each operation and phase; `make schemathesis`
makes 300.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

pytest.importorskip("drf_spectacular")
pytest.importorskip("schemathesis")
from testproject.demo.server import Shop, open_shop
from testproject.provider.server import open_provider

EXAMPLES = os.environ.get("IDEMPOTENCY_TEST_EXAMPLES", "3")
HERE = Path(__file__).parent

pytestmark = [pytest.mark.once, pytest.mark.drf]


def token_of(shop: Shop) -> str:
    """The token of a customer."""
    login = {"username": "guest", "password": "guest"}
    reply = httpx.post(f"{shop.address}/api/token/", data=login)
    return str(reply.json()["token"])


def schemathesis(shop: Shop, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run schemathesis over all operations, with its files in ``folder``."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
        *("--config-file", str(HERE / "schemathesis.toml")),
        *(
            "run",
            f"{shop.address}/api/schema/",
            "--header",
            f"Authorization: Bearer {token_of(shop)}",
        ),
        *("--max-examples", EXAMPLES, "--generation-deterministic"),
    ]
    own = {
        "PYTHONPATH": str(HERE.parent.parent),
        "SCHEMATHESIS_HOOKS": "tests.clients.schemathesis_hooks",
        "IDEMPOTENCY_TEST_REPLAYS": str(folder / "replays"),
    }
    return subprocess.run(
        command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False
    )


def tickets(shop: Shop) -> tuple[list[str], list[str]]:
    """The numbers of the baked cakes, and those of the orders in the database."""
    lines = shop.books.kitchen_log.read_text().splitlines()
    with closing(sqlite3.connect(shop.books.database)) as connection:
        orders = connection.execute("SELECT ticket FROM shop_order").fetchall()
    baked = [json.loads(line)["ticket"].replace("-", "") for line in lines]
    return sorted(baked), sorted(ticket for (ticket,) in orders)


def test_shop_keeps_to_its_schema(tmp_path: Path) -> None:
    """No 5xx and nothing undocumented; a repeated order gets its reply and no second cake."""
    with open_provider() as provider, open_shop(provider=provider.address) as shop:
        run = schemathesis(shop, tmp_path)
        assert run.returncode in (0, 1), run.stdout + run.stderr
        baked, ordered = tickets(shop)
    assert baked == ordered
    assert run.returncode == 0, run.stdout + run.stderr
    replays = len((tmp_path / "replays").read_text().splitlines())
    assert replays > 0
    (summary,) = re.findall(r"=+ SUMMARY =+\n(.*)", run.stdout, re.DOTALL)
    print(f"\n{summary.strip()}\norders: {len(ordered)}, replays: {replays}")
