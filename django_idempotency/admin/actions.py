"""Expire, release, delete: confirmed first, done in batches, and written into the admin's log."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, ngettext_lazy

from ..maintenance import records as maintenance
from ..maintenance.records import Released
from ..models import IdempotencyRecord, RecordQuerySet
from ..storage.upkeep import Upkeep
from .search import id_in
from .standing import Text

# Records that are read, changed and logged together.
BATCH = 100
#: After so long the page asks whether to go on, because a worker's request must not take forever.
PATIENCE_SECONDS = 10.0
_SHOWN = 20
#: The form's fields: the user has confirmed; the user came from a record's page.
SURE, FROM_RECORD = "post", "_record"
_AFTER = "after"

Ids = list[uuid.UUID]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The records that were changed, the reasons for the others, and a warning for the user."""

    done: Ids
    refused: Counter[str]
    warning: Text = ""


def _others(left: int, reason: Text) -> Counter[str]:
    return Counter({str(reason): left} if left else {})


def _expire(store: Upkeep, ids: Ids) -> Outcome:
    expired = maintenance.expire(store, ids)
    others = _others(len(ids) - len(expired.ids), _("In progress, or expired already."))
    warning = "" if expired.is_invalidated else _("The replay cache may answer for a while.")
    return Outcome(expired.ids, others, warning)


def _release(store: Upkeep, ids: Ids) -> Outcome:
    answers = {record: maintenance.release(store, record) for record in ids}
    done = [record for record, answer in answers.items() if answer is Released.DONE]
    others = Counter(str(a.label) for a in answers.values() if a is not Released.DONE)
    return Outcome(done, others)


def _delete(store: Upkeep, ids: Ids) -> Outcome:
    done = maintenance.delete(store, ids)
    reason = _("Still answering, or in progress: expire or release it first.")
    return Outcome(done, _others(len(ids) - len(done), reason))


@dataclass(frozen=True, slots=True)
class Question:
    """Something that the user has to confirm, with its texts."""

    name: str
    title: Text
    consequence: Text
    #: For the log.
    entry: Text
    done: Any


@dataclass(frozen=True, slots=True)
class RecordAction(Question):
    """Something that the user can do to records."""

    work: Callable[[Upkeep, Ids], Outcome]
    flag: int = CHANGE


EXPIRE = RecordAction(
    "expire",
    _("Expire keys?"),
    _(
        "Their saved responses answer no more. The next request with such a key runs anew, and"
        " what it does is done once more."
    ),
    _("Expired."),
    ngettext_lazy("%d key expired.", "%d keys expired."),
    _expire,
)
RELEASE = RecordAction(
    "release",
    _("Release stuck keys?"),
    _(
        "A key whose owner is dead is freed, and the next request with it runs. A live owner"
        " keeps its key."
    ),
    _("Released."),
    ngettext_lazy("%d key released.", "%d keys released."),
    _release,
)
DELETE = RecordAction(
    "delete_selected",
    _("Delete records?"),
    _("Expired records are deleted. Those that still answer, or are in progress, are left alone."),
    _("Deleted."),
    ngettext_lazy("%d record deleted.", "%d records deleted."),
    _delete,
    DELETION,
)


@dataclass(slots=True)
class _Progress:
    """How far an action has come; ``rest_after`` is the record after which it stopped early."""

    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    warnings: set[str] = field(default_factory=set)
    rest_after: uuid.UUID | None = None


def _batches(records: RecordQuerySet, after: uuid.UUID | None) -> Iterator[list[IdempotencyRecord]]:
    """Batches by primary key: the action itself changes the records' place in any other order."""
    ordered = records.select_related(None).order_by("pk").only("pk", "scope", "key")
    while batch := list((ordered.filter(pk__gt=after) if after else ordered)[:BATCH]):
        yield batch
        after = batch[-1].pk


def _log(request: HttpRequest, records: list[IdempotencyRecord], action: RecordAction) -> None:
    if records and request.user.pk:
        LogEntry.objects.log_actions(request.user.pk, records, action.flag, str(action.entry))


def _perform(request: HttpRequest, records: RecordQuerySet, action: RecordAction) -> _Progress:
    store, progress = Upkeep(records.db), _Progress()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for batch in _batches(records, id_in(request.POST.get(_AFTER, ""))):
        outcome = action.work(store, [record.pk for record in batch])
        _log(request, [record for record in batch if record.pk in outcome.done], action)
        progress.done += len(outcome.done)
        progress.refused += outcome.refused
        if outcome.warning:
            progress.warnings.add(str(outcome.warning))
        if len(batch) == BATCH and time.monotonic() > deadline:
            progress.rest_after = batch[-1].pk
            break
    return progress


class ActionsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Asks the user for confirmation, acts on records, and reports the result."""

    def record_url(self, record: uuid.UUID | str) -> str:
        """The address of a record's page."""
        name = "admin:django_idempotency_idempotencyrecord_change"
        return reverse(name, args=[quote(record)], current_app=self.admin_site.name)

    def ask(
        self, request: HttpRequest, question: Question, template: str, **context: Any
    ) -> HttpResponse:
        """The page on which the user confirms."""
        common = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": question.title,
            "action": question,
            "media": self.media,
        }
        template = f"admin/django_idempotency/idempotencyrecord/{template}.html"
        return TemplateResponse(request, template, common | context)

    def carry_out(
        self, request: HttpRequest, records: RecordQuerySet, action: RecordAction
    ) -> HttpResponse:
        """Ask for confirmation first; once confirmed, act, report the result and go back."""
        if SURE not in request.POST:
            return self._confirmation(request, records, action)
        did = _perform(request, records, action)
        self._report(request, did, action)
        if did.rest_after:
            return self._confirmation(request, records, action, did.rest_after)
        is_gone = action is DELETE and did.done
        return redirect(request.get_full_path() if is_gone else self._origin(request))

    def _report(self, request: HttpRequest, did: _Progress, action: RecordAction) -> None:
        if did.done:
            self.message_user(request, action.done % did.done, messages.SUCCESS)
        for reason, count in did.refused.items():
            left = ngettext("%d was left alone.", "%d were left alone.", count) % count
            self.message_user(request, f"{left} {reason}", messages.WARNING)
        for warning in did.warnings:
            self.message_user(request, warning, messages.WARNING)

    def _origin(self, request: HttpRequest) -> str:
        """The address the user came from: a record's page, or the list with its filters."""
        if FROM_RECORD not in request.POST:
            return request.get_full_path()
        return self.record_url(request.POST[ACTION_CHECKBOX_NAME])

    def _confirmation(
        self,
        request: HttpRequest,
        records: RecordQuerySet,
        action: RecordAction,
        after: uuid.UUID | None = None,
    ) -> HttpResponse:
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        is_all = request.POST.get("select_across") == "1"
        return self.ask(
            request,
            action,
            "confirmation",
            is_all=is_all,
            shown=records[:_SHOWN],
            others=0 if is_all else max(len(selected) - _SHOWN, 0),
            # Django wants one selected id even when all records are meant.
            selected=selected[:1] if is_all else selected,
            checkbox=ACTION_CHECKBOX_NAME,
            from_record=FROM_RECORD in request.POST,
            after=after,
            back_url=self._origin(request),
        )
