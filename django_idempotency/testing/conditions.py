"""Conditions that a test sets up: records moved into the past, and protection switched off."""

from datetime import timedelta
from typing import Any

from django.db.models import DateTimeField, F
from django.test.utils import override_settings

from ..models import IdempotencyRecord


def protection_off() -> override_settings:
    """Protection is off, in a ``with`` block or in a decorated test or test case.

    Covered views run as they do without a key, even those that require one.
    """
    return override_settings(IDEMPOTENCY_ENABLED=False)


def age_records(by: timedelta, *, using: str | None = None, **filters: Any) -> int:
    """Move every time of the records that match ``filters`` into the past; returns their number.

    So a test need not wait until a lease or a retention is over. ``using`` is the alias of the
    records' database.
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
    """Move every time of one record into the past; returns the record as it is now.

    The record is given by itself or by its key. Raises DoesNotExist for a key without a record, and
    MultipleObjectsReturned for a key that several callers have used.
    """
    if isinstance(record, str):
        record = IdempotencyRecord.objects.using(using).get(key=record)
    age_records(by, using=record._state.db, pk=record.pk)
    record.refresh_from_db()
    return record
