"""What a person decides about one operation: run the completer now, or say how a step ended.

Each decision is confirmed first and written into the admin's log; a refusal says why.
"""

import json
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.urls import path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..durable import completer
from ..durable.completer import Completion
from ..durable.definitions import result_to_json
from ..maintenance import resolutions
from ..maintenance.resolutions import IN_DOUBT, Doubt, Resolved
from ..models import IdempotencyRecord, IdempotencyStep
from ..storage.upkeep import Upkeep
from .actions import SURE, ActionsAdmin, Question
from .standing import Text, envelope_of

#: The form's fields: the step, the attempt that the page showed, and the decision.
STEP, ATTEMPT, DECISION = "step", "attempt", "decision"


COMPLETE = Question(
    "complete",
    _("Run the completer now?"),
    _(
        "The stored request is made once more in the name of its user, and the operation goes on"
        " after its last recorded step. This page waits for it."
    ),
    _("Ran the completer."),
    "",
)
DONE = Question(
    "done",
    _("Record the step as done?"),
    _(
        "It is never run again. The next attempt goes on after it, as if it had returned what you"
        " write here."
    ),
    _("Step “%s” was recorded as done."),
    _("The step is recorded as done: the next attempt goes on after it."),
)
NOT_DONE = Question(
    "not_done",
    _("Record the step as not done?"),
    _("The next attempt runs it again. If it was done after all, it is done twice."),
    _("Step “%s” was recorded as not done."),
    _("The step is recorded as not done: the next attempt runs it again."),
)
_DECISIONS = {question.name: question for question in (DONE, NOT_DONE)}

_RESULTS: dict[Completion, tuple[int, Text]] = {
    Completion.COMPLETED: (
        messages.SUCCESS,
        _("The operation is finished: its response is saved."),
    ),
    Completion.FAILED: (messages.ERROR, _("It came to an end that no other attempt changes.")),
    Completion.REFUSED: (
        messages.WARNING,
        _("It was answered without an outcome: that is for its client to mend."),
    ),
    Completion.PENDING: (messages.WARNING, _("It is not finished yet, and is tried again later.")),
    Completion.BUSY: (messages.WARNING, _("Nothing was done: somebody else runs it just now.")),
    Completion.GIVEN_UP: (messages.ERROR, _("It cannot go on, and is not tried again.")),
    Completion.GONE: (messages.WARNING, _("There is nothing to finish any more.")),
}


class OutputForm(forms.Form):
    """The result that a step would have returned; ``cleaned_data`` has it as JSON in bytes."""

    output = forms.CharField(
        label=_("Output"),
        initial="null",
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
        help_text=_("In JSON: what the step would have returned to its view."),
    )

    def clean_output(self) -> bytes:
        """The output as the step itself would have recorded it."""
        try:
            value = json.loads(self.cleaned_data["output"].strip() or "null")
            # Python reads NaN and Infinity, which are not JSON.
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError) as error:
            raise ValidationError(forms.JSONField.default_error_messages["invalid"]) from error
        try:
            return result_to_json("", value)
        except ValueError as error:
            text = _("It is longer than %s.") % filesizeformat(conf.max_step_bytes())
            raise ValidationError(text) from error


def _alias(record: IdempotencyRecord) -> str:
    return record._state.db or ""


def _number(request: HttpRequest, name: str) -> int:
    """A number from the form; -1 if the field holds no number."""
    text = request.POST.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _seen(request: HttpRequest, record: IdempotencyRecord) -> tuple[Doubt, IdempotencyStep | None]:
    """The step as the user saw it, and as it is now."""
    doubt = Doubt(record.pk, _number(request, STEP), _number(request, ATTEMPT))
    rows = IdempotencyStep.objects.using(_alias(record)).filter(record=record, pk=doubt.step)
    return doubt, rows.defer("output").first()


Decision = Callable[[HttpRequest, IdempotencyRecord], HttpResponse]


class DecisionsAdmin(ActionsAdmin):
    """Adds the decisions, for users with the permissions to view records and to complete them."""

    def has_complete_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.complete")

    def get_urls(self) -> list[Any]:
        return [
            self._route("complete", self._complete),
            self._route("resolve", self._resolve),
            *super().get_urls(),
        ]

    def _route(self, name: str, decision: Decision) -> Any:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            return self._decide(request, object_id, decision)

        # The completer runs a view in here, whose calls must not be inside a transaction.
        view._non_atomic_requests = set(connections)  # type: ignore[attr-defined]
        label = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        return path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=label)

    def _decide(self, request: HttpRequest, object_id: str, decision: Decision) -> HttpResponse:
        if not (self.has_view_permission(request) and self.has_complete_permission(request)):
            raise PermissionDenied
        record = self.get_object(request, unquote(object_id))
        if record is None or request.method != "POST":
            return redirect(self.record_url(unquote(object_id)))
        return decision(request, record)

    def _complete(self, request: HttpRequest, record: IdempotencyRecord) -> HttpResponse:
        """Run the completer for one operation, and report the result."""
        if SURE not in request.POST:
            return self._ask(request, record, COMPLETE)
        completed = completer.Completed(record.pk, Completion.GONE)
        if envelope_of(record) is not None:
            # Logged first, because the worker may be killed for taking too long.
            self.log_change(request, record, str(COMPLETE.entry))
            completed = completer.complete(_alias(record), record.pk)
        level, text = _RESULTS[completed.completion]
        error = f" ({completed.error})" if completed.error else ""
        return self._answered(request, record, level, f"{text}{error}")

    def _resolve(self, request: HttpRequest, record: IdempotencyRecord) -> HttpResponse:
        """Record what the user found out about a step in doubt."""
        question = _DECISIONS.get(request.POST.get(DECISION, ""))
        doubt, step = _seen(request, record)
        if question is None or step is None:
            return self._refused(request, record, Resolved.GONE)
        if step.status not in IN_DOUBT or step.attempt != doubt.attempt:
            return self._refused(request, record, Resolved.CERTAIN)
        is_sure = SURE in request.POST
        form = OutputForm(request.POST if is_sure else None) if question is DONE else None
        if not is_sure or (form and not form.is_valid()):
            return self._ask(request, record, question, step=step, form=form)
        output = form.cleaned_data["output"] if form else None
        resolved = resolutions.resolve(Upkeep(_alias(record)), doubt, output=output)
        if resolved is not Resolved.DONE:
            return self._refused(request, record, resolved)
        self.log_change(request, record, str(question.entry) % step)
        return self._answered(request, record, messages.SUCCESS, question.done)

    def _ask(
        self, request: HttpRequest, record: IdempotencyRecord, question: Question, **context: Any
    ) -> HttpResponse:
        back_url = self.record_url(record.pk)
        return self.ask(request, question, "decision", record=record, back_url=back_url, **context)

    def _refused(
        self, request: HttpRequest, record: IdempotencyRecord, why: Resolved
    ) -> HttpResponse:
        text = f"{gettext('Nothing was done.')} {why.label}"
        return self._answered(request, record, messages.WARNING, text)

    def _answered(
        self, request: HttpRequest, record: IdempotencyRecord, level: int, text: Text
    ) -> HttpResponse:
        self.message_user(request, str(text), level)
        return redirect(self.record_url(record.pk))
