"""``python -m tests.unit.storage.golden``: the files say what is built now."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django_idempotency.storage.dialects import DIALECTS  # noqa: E402
from tests.unit.storage.golden.texts import file_of, golden  # noqa: E402

for vendor in DIALECTS:
    file_of(vendor).write_text(golden(vendor))
