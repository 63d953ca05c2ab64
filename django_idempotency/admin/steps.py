"""An operation of several steps as a person sees it: how far each of them came, and by what."""

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
from .standing import Text, duration, standing

# The latest ones; an operation with more is a loop.
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ShownStep:
    """One step: what it is, how it stands, and what is known of its last run."""

    id: int
    name: str
    kind: Text
    status: StepStatus
    attempt: int
    began: datetime
    ended: datetime | None
    error: str
    #: Whether a person said how it ended.
    is_told: bool
    #: Whether nobody knows, and nobody is about to find out.
    is_in_doubt: bool
    size: int | None
    output: Body | None

    @property
    def label(self) -> Text:
        """The status in words."""
        return self.status.label

    @property
    def is_interrupted(self) -> bool:
        """Whether the attempt that began it is over."""
        return self.is_in_doubt and self.status is StepStatus.STARTED

    @property
    def runs(self) -> str:
        """How often it was run."""
        return ngettext("%d run", "%d runs", self.attempt) % self.attempt

    @property
    def took(self) -> str:
        """How long its last run was; empty where nobody knows."""
        return "" if self.is_told or self.ended is None else _brief(self.began, self.ended)


def _brief(began: datetime, ended: datetime) -> str:
    """A duration that is mostly short."""
    length = max(ended - began, timedelta())
    if length < timedelta(seconds=1):
        return str(_("%d ms") % (length // timedelta(milliseconds=1)))
    if length < timedelta(minutes=1):
        return str(_("%s s") % formats.number_format(length.total_seconds(), decimal_pos=1))
    return duration(began, ended)


@dataclass(frozen=True, slots=True)
class ShownSteps:
    """Those that are shown, in the order of their last runs."""

    steps: list[ShownStep]
    there_are_more: bool = False

    @property
    def have_outputs(self) -> bool:
        """Whether any of them returned something."""
        return any(step.size is not None for step in self.steps)


def _shown(row: Any, *, is_left: bool, with_outputs: bool) -> ShownStep:
    is_told = row.error == RESOLVED_BY_HAND
    readable = with_outputs and row.output is not None
    return ShownStep(
        id=row.pk,
        name=row.name.removeprefix("undo:") if row.kind == StepKind.UNDO else row.name,
        kind=StepKind(row.kind).label,
        status=StepStatus(row.status),
        attempt=row.attempt,
        began=row.started_at,
        ended=row.completed_at,
        error="" if is_told else row.error,
        is_told=is_told,
        is_in_doubt=is_left and row.status in IN_DOUBT,
        size=row.size,
        output=output_of(bytes(row.output), row.codec) if readable else None,
    )


def steps_of(record: IdempotencyRecord, *, with_outputs: bool) -> ShownSteps:
    """The steps of a record; one statement, which reads outputs only ``with_outputs``."""
    rows = IdempotencyStep.objects.using(record._state.db).filter(record=record)
    rows = rows.annotate(size=Length("output")).order_by("-started_at", "-pk")
    found = list((rows if with_outputs else rows.defer("output"))[: _SHOWN + 1])
    is_left = standing(record).is_left
    shown = [_shown(row, is_left=is_left, with_outputs=with_outputs) for row in found[:_SHOWN]]
    return ShownSteps(shown[::-1], len(found) > _SHOWN)
