"""The ledger: what was done, and every request to do something."""

import uuid
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from .services import Service


class Entry(models.Model):
    """Something that was done. Nothing here refuses a second entry for a key: it would be seen."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    service = models.CharField(max_length=20, choices=Service)
    # Empty without one.
    key = models.CharField(max_length=255, blank=True, db_index=True)
    details = models.JSONField(encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return f"{self.get_service_display()} {self.pk}"

    def as_json(self) -> dict[str, Any]:
        """The reply to the request that made it, and its line in the ledger."""
        own = {"id": self.id, "service": self.service, "key": self.key}
        return {**own, **self.details, "created_at": self.created_at}


class Call(models.Model):
    """A request that arrived, whatever became of it, and the mood it met."""

    service = models.CharField(max_length=20, choices=Service)
    key = models.CharField(max_length=255, blank=True)
    mood = models.CharField(max_length=20)
    arrived_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.service} {self.key}: {self.mood}"

    def as_json(self) -> dict[str, Any]:
        """Its line in the list of calls."""
        own = {"service": self.service, "key": self.key, "mood": self.mood}
        return {**own, "arrived_at": self.arrived_at}
