"""Expires keys, as a person does in the admin, until its standard input ends.

Each is one line of :data:`~.history.RECALLS`: when it began, when it had returned, what came of it.
An accomplice in the replay cache brings back what lay there, now and then with its marker.
"""

import json
import logging
import os
import random
import select
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import django

django.setup()

from django.core.cache import caches  # noqa: E402
from django.db import Error, connection  # noqa: E402

from django_idempotency import conf  # noqa: E402
from django_idempotency.maintenance.records import expire  # noqa: E402
from django_idempotency.models import IdempotencyRecord, Status  # noqa: E402
from django_idempotency.storage.upkeep import Upkeep  # noqa: E402

from .clients import STRANGER  # noqa: E402
from .history import RECALLS, Recall  # noqa: E402
from .promises import PROMISES  # noqa: E402

# Often enough that most of those keys are expired while clients ask for them.
_PERIOD = 0.02
# Those that were claimed last are asked for most.
_NEWEST = 20


class Accomplice:
    """What lies in the replay cache for a record, to be brought back; it never expires then."""

    def __init__(self, record: uuid.UUID) -> None:
        self._values: dict[str, bytes] = {}
        #: Whether the marker is brought back, too.
        self.takes_all = random.random() < 0.2
        # The server may be frozen or dead just now.
        with suppress(Exception):
            for place in ("m", "e") if self.takes_all else ("e",):
                name = f":1:idempotency:{{default:{record.hex}}}:{place}"
                self._values[name] = self._redis.get(name)

    @property
    def _redis(self) -> Any:
        return caches[conf.cache_alias()].client.get_client(write=True)

    def bring_back(self) -> None:
        """All of it, or nothing."""
        with suppress(Exception):
            for name, value in self._values.items():
                self._redis.set(name, value)


def recall() -> Recall | None:
    """Expire one of the newest completed keys; None where there is none."""
    paths = [path for path, promise in PROMISES.items() if promise.recalled]
    records = IdempotencyRecord.objects.filter(path__in=paths, status=Status.COMPLETED)
    newest = records.order_by("-claimed_at").values_list("pk", "scope", "key", "path")[:_NEWEST]
    if not (found := list(newest)):
        return None
    record, scope, key, path = random.choice(found)
    accomplice = Accomplice(record) if conf.cache_alias() else None
    caller, began = "" if scope == "anonymous" else STRANGER, time.monotonic()
    done, forgotten = None, False
    try:
        expired = expire(Upkeep("default"), [record])
        done, forgotten = bool(expired.ids), expired.is_invalidated
    except Error:
        connection.close_if_unusable_or_obsolete()
    ended = time.monotonic()
    if accomplice:
        accomplice.bring_back()
    restored = accomplice is not None and accomplice.takes_all
    return Recall(caller, key, path, began, ended, done, forgotten, restored)


def main() -> None:
    """Expire and expire."""
    # A replay cache that does not answer is noted in the diary.
    logging.disable()
    with (Path(os.environ["IDEMPOTENCY_TEST_FOLDER"]) / RECALLS).open("w") as diary:
        while not select.select([sys.stdin], [], [], _PERIOD)[0]:
            try:
                connection.close_if_unusable_or_obsolete()
                one = recall()
            except Error:
                continue
            if one is not None:
                diary.write(f"{json.dumps(asdict(one))}\n")


if __name__ == "__main__":
    main()
