"""A process with any clock that serves the test app: each line is a call, and gets one line.

``python -m tests.faults.clerk`` reads ``["NAME", ARGUMENT, ...]`` from its standard input, calls
the function of that name and prints what it returned, as JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from io import StringIO
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402

from django_idempotency.models import IdempotencyRecord  # noqa: E402


def clock() -> float:
    """This process's time, in seconds."""
    return time.time()


def send(path: str, key: str, log: str) -> list[Any]:
    """Send one request, whose effect is logged there: its status, and whether it was a replay."""
    os.environ["EFFECTS_LOG"] = log
    response = Client().post(path, headers={"Idempotency-Key": key})
    return [response.status_code, "Idempotent-Replayed" in response]


def questions() -> list[int]:
    """How many records are expired, and how many stale."""
    return [IdempotencyRecord.objects.expired().count(), IdempotencyRecord.objects.stale().count()]


def clean() -> str:
    """Delete what has expired."""
    said = StringIO()
    call_command("cleanup_idempotency", stdout=said)
    return said.getvalue()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (clock, send, questions, clean)
}


if __name__ == "__main__":
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(FUNCTIONS[name](*arguments)), flush=True)
