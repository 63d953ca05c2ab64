"""A completer in a process of its own, which is ready before it begins: ``python -m ...``.

It says that it is ready, waits for a line, finishes what is due in the test database, and prints
what came of each operation.
"""

import sys

import django
from django.test import override_settings

django.setup()

from django_idempotency.durable.completer import complete_due  # noqa: E402
from tests.concurrency.test_steps import journey  # noqa: E402
from tests.support.stage import plays  # noqa: E402

if __name__ == "__main__":
    plays(journey)
    print("ready", flush=True)
    sys.stdin.readline()
    with override_settings(ROOT_URLCONF="tests.support.stage"):
        print(*(done.completion.value for done in complete_due()))
