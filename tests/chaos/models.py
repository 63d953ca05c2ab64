"""The ledger: one row for each run of the view that was committed."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class Ledger(models.Model):
    """One effect, with the request and the run that made it."""

    request = models.CharField(max_length=32)
    caller = models.CharField(max_length=32)
    key = models.CharField(max_length=64)
    path = models.CharField(max_length=32)
    payload = models.CharField(max_length=255)
    nonce = models.CharField(max_length=32)
    outcome = models.PositiveSmallIntegerField()
    at = models.DateTimeField(db_default=Now())

    objects: ClassVar[models.Manager["Ledger"]] = models.Manager()

    class Meta:
        app_label = "chaos"
