"""Hooks for schemathesis (``SCHEMATHESIS_HOOKS``), which make it send every order a second time.

``IDEMPOTENCY_TEST_REPLAYS`` names the file that gets a line for each replay.
"""

import itertools
import os
import re
import uuid
from pathlib import Path
from typing import Any

import requests
import schemathesis

from django_idempotency.http.keys import MAX_LENGTH, PATTERN

# The longest time that the schema allows for baking.
_LONGEST = 5
_calls = itertools.count()


def _freshen(headers: Any) -> None:
    """Make two of three keys new: schemathesis prefers "0", which is soon used up."""
    key = str((headers or {}).get("Idempotency-Key", ""))
    if re.search(PATTERN, key) and len(key) <= MAX_LENGTH and next(_calls) % 3:
        headers["Idempotency-Key"] = str(uuid.uuid4())


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Order cakes that bake immediately."""
    _freshen(case.headers)
    seconds: Any = case.body.get("bake_seconds") if isinstance(case.body, dict) else None
    if type(seconds) in (int, float) and 0 <= seconds <= _LONGEST:
        case.body["bake_seconds"] = 0.0


@schemathesis.check
def replayed(ctx: Any, response: Any, case: Any) -> None:
    """A covered request that succeeded gets the same reply again."""
    first = response.request
    # A request that was only accepted has no response to replay yet.
    if first.method != "POST" or response.status_code >= 300 or response.status_code == 202:
        return
    if "Idempotency-Key" not in first.headers:
        return
    with requests.Session() as session:
        again = session.send(first, timeout=10)
    marked = "Idempotent-Replayed" in again.headers
    covered = re.search("/(orders|deliveries)/", first.url) is not None
    assert marked == covered, "marked as a replay by the wrong view"
    if marked:
        assert (again.status_code, again.content) == (response.status_code, response.content)
        with Path(os.environ["IDEMPOTENCY_TEST_REPLAYS"]).open("a") as log:
            log.write(f"{first.url}\n")
