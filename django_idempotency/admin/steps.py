"""The steps of an operation as the record's page shows them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models.functions import Length
from django.utils import formats
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..maintenance.resolutions import IN_DOUBT, RESOLVED_BY_HAND
from ..models import IdempotencyRecord, IdempotencyStep, StepKind, StepStatus
from .bodies import Body, output_of
from .standing import duration, standing

# Only the latest steps are shown; an operation with more of them runs a loop.
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ShownStep:
    """One step, and what the page says of it besides its columns."""

    row: IdempotencyStep
    #: Whether its outcome is unknown, and no running attempt will record it.
    is_in_doubt: bool
    output: Body | None

    @property
    def name(self) -> str:
        return self.row.name.removeprefix("undo:" if self.row.kind == StepKind.UNDO else "")

    @property
    def is_resolved(self) -> bool:
        """Whether a person recorded how it ended."""
        return self.row.error == RESOLVED_BY_HAND

    @property
    def is_interrupted(self) -> bool:
        """Whether the attempt that began the step ended before the step did."""
        return self.is_in_doubt and self.row.status == StepStatus.STARTED

    @property
    def runs(self) -> str:
        return ngettext("%d run", "%d runs", self.row.attempt) % self.row.attempt

    @property
    def took(self) -> str:
        """How long the last run took; empty where that is unknown."""
        began, ended = self.row.started_at, self.row.completed_at
        return "" if self.is_resolved or ended is None else _brief(began, ended)


def _brief(began: datetime, ended: datetime) -> str:
    """A duration in words; a short one in milliseconds or with a decimal."""
    length = max(ended - began, timedelta())
    if length < timedelta(seconds=1):
        return str(_("%d ms") % (length // timedelta(milliseconds=1)))
    if length < timedelta(minutes=1):
        return str(_("%s s") % formats.number_format(length.total_seconds(), decimal_pos=1))
    return duration(began, ended)


@dataclass(frozen=True, slots=True)
class ShownSteps:
    """The steps on the page, in the order of their last runs."""

    steps: list[ShownStep]
    there_are_more: bool
    have_outputs: bool


def _shown(row: Any, *, is_left: bool, with_outputs: bool) -> ShownStep:
    readable = with_outputs and row.output is not None
    output = output_of(bytes(row.output), row.codec) if readable else None
    return ShownStep(row, is_left and row.status in IN_DOUBT, output)


def steps_of(record: IdempotencyRecord, *, with_outputs: bool) -> ShownSteps:
    """The steps of a record, by one statement; it reads the outputs only ``with_outputs``."""
    rows = IdempotencyStep.objects.using(record._state.db).filter(record=record)
    rows = rows.annotate(size=Length("output")).order_by("-started_at", "-pk")
    found = list((rows if with_outputs else rows.defer("output"))[: _SHOWN + 1])
    is_left = standing(record).is_left
    shown = [_shown(row, is_left=is_left, with_outputs=with_outputs) for row in found[:_SHOWN]]
    have_outputs = any(row.size is not None for row in found[:_SHOWN])
    return ShownSteps(shown[::-1], len(found) > _SHOWN, have_outputs)
