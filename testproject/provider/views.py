"""The provider's counters: at each, a shop has something done or asks what a key has done."""

import contextlib
import json
import socket
from collections.abc import Iterable
from typing import Any, cast

from django.core.handlers.wsgi import WSGIRequest
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from django_idempotency.decorators import idempotent
from django_idempotency.operation import Operation

from .forms import FORMS, SpellForm
from .models import Call, Entry
from .moods import TEMPER, Mood, Spell
from .services import Service


class KeyedRequest(HttpRequest):
    """A request in a covered view."""

    idempotency: Operation


def _error(status: int, code: str, **more: Any) -> JsonResponse:
    return JsonResponse({"code": code, **more}, status=status)


def _sent(request: HttpRequest) -> dict[str, Any]:
    """The JSON object in the body; an empty one if there is none."""
    try:
        sent = json.loads(request.body)
    except ValueError:
        return {}
    return sent if isinstance(sent, dict) else {}


def _listed(entries: Iterable[Entry]) -> JsonResponse:
    return JsonResponse({"entries": [entry.as_json() for entry in entries]})


@idempotent
def work(request: KeyedRequest, service: Service, mood: Mood) -> HttpResponse:
    """Do it; the entry and the saved reply are one commit."""
    if mood is Mood.DECLINE:
        return _error(402, "card_declined")
    form = FORMS[service](_sent(request))
    if not form.is_valid():
        return _error(400, "invalid", errors=form.errors)
    key = request.idempotency.key or ""
    entry = Entry.objects.create(service=service, key=key, details=form.cleaned_data)
    return JsonResponse(entry.as_json(), status=201)


def _hang_up(request: HttpRequest) -> None:
    """Close the connection; what the server still writes to it, nobody reads."""
    connection: socket.socket = cast(WSGIRequest, request).environ["gunicorn.socket"]
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _serve(request: HttpRequest, service: Service, spell: Spell) -> HttpResponseBase:
    key = request.headers.get("Idempotency-Key", "")
    Call.objects.create(service=service, key=key, mood=spell.mood)
    if spell.mood is Mood.FAIL:
        return _error(503, "out_of_order")
    if spell.mood is Mood.HANG:
        # Before the claim: SQLite's one write lock stays free.
        TEMPER.hang(spell.seconds)
    reply = work(cast(KeyedRequest, request), service, spell.mood)
    if spell.mood is Mood.LOSE:
        _hang_up(request)
    return reply


@require_http_methods(["GET", "POST"])
def counter(request: HttpRequest, service: Service) -> HttpResponseBase:
    """POST has something done, in the mood of the moment; GET tells what ``?key=`` has done."""
    if request.method == "POST":
        with TEMPER.meet(service) as spell:
            return _serve(request, service, spell)
    return _listed(Entry.objects.filter(service=service, key=request.GET.get("key", "")))


@require_GET
def ledger(request: HttpRequest) -> HttpResponseBase:
    """Everything that was done."""
    return _listed(Entry.objects.all())


@require_GET
def calls(request: HttpRequest) -> HttpResponseBase:
    """Every request to do something, retries and refused ones included."""
    return JsonResponse({"calls": [call.as_json() for call in Call.objects.all()]})


def _spells(sent: dict[str, Any]) -> dict[Service, Spell] | None:
    """The moods that were sent, or None if one of them cannot be had."""
    forms = {name: SpellForm(said) for name, said in sent.items() if isinstance(said, dict)}
    known = forms.keys() == sent.keys() and forms.keys() <= set(Service.values)
    if not (known and all(form.is_valid() for form in forms.values())):
        return None
    return {Service(name): form.spell() for name, form in forms.items()}


@require_http_methods(["GET", "PUT"])
def mood(request: HttpRequest) -> HttpResponseBase:
    """PUT ``{service: {mood, times, seconds}}`` changes the moods of these; GET tells all."""
    if request.method == "PUT":
        spells = _spells(_sent(request))
        if spells is None:
            return _error(400, "invalid", moods=list(Mood), services=Service.values)
        TEMPER.turn(spells)
    return JsonResponse(TEMPER.describe())


@require_POST
def hurry(request: HttpRequest) -> HttpResponseBase:
    """Answer when all that has come is served."""
    TEMPER.hurry()
    return HttpResponse(status=204)


@require_POST
def reset(request: HttpRequest) -> HttpResponseBase:
    """Forget everything, keys and moods included."""
    TEMPER.turn(dict.fromkeys(Service, Spell()))
    # What is served later would be remembered.
    TEMPER.hurry()
    call_command("flush", verbosity=0, interactive=False)
    return HttpResponse(status=204)
