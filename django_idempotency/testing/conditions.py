"""What a test arranges beforehand: records from another time, and protection switched off."""

from datetime import timedelta
from typing import Any

from django.db.models import DateTimeField, F
from django.test.utils import override_settings

from ..models import IdempotencyRecord


def protection_off() -> override_settings:
    """Switch protection off, in a ``with`` or as the decorator of a test or a test case.

    Covered views run as they do without a key; those that require one run, too.
    """
    return override_settings(IDEMPOTENCY_ENABLED=False)


def age_records(by: timedelta, *, using: str | None = None, **filters: Any) -> int:
    """Move every time of the records that match ``filters`` into the past; how many they were.

    A lease or a retention is then over without anybody having waited for it. ``using`` is the
    alias of the records' database.
    """
    times = [
        field.name
        for field in IdempotencyRecord._meta.concrete_fields
        if isinstance(field, DateTimeField)
    ]
    records = IdempotencyRecord.objects.using(using).filter(**filters)
    return records.update(**{name: F(name) - by for name in times})


def age_record(
    record: IdempotencyRecord | str, by: timedelta, *, using: str | None = None
) -> IdempotencyRecord:
    """Move every time of one record, given by itself or by its key, into the past; the record.

    Raises DoesNotExist for a key without a record, and MultipleObjectsReturned for one that
    several callers have sent.
    """
    if isinstance(record, str):
        record = IdempotencyRecord.objects.using(using).get(key=record)
    age_records(by, using=record._state.db, pk=record.pk)
    record.refresh_from_db()
    return record
