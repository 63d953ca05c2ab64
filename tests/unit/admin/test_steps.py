"""An operation of several steps on its record's page, and in the list."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency import codecs
from django_idempotency.models import IdempotencyRecord, StepKind, StepStatus

from . import LIST, abandoned, client_of, left, made, page_of, running, step_of, stored_for

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

NOW = datetime.now(UTC)
VIEW = "view_idempotencyrecord"
RECEIPT = b'{"id":"ch_1"}'


def done(record: IdempotencyRecord, name: str, **changes: Any) -> None:
    """A step that returned a receipt after a quarter of a second."""
    began = datetime.now(UTC) - timedelta(seconds=45)
    ended = began + timedelta(milliseconds=250)
    values = {"started_at": began, "completed_at": ended, "output": RECEIPT}
    step_of(record, name, status=StepStatus.COMPLETED, **values | changes)


def read(client: Client, record: IdempotencyRecord, query: str = "") -> str:
    """The HTML of the record's page."""
    return client.get(page_of(record) + query).content.decode()


def titles(client: Client, record: IdempotencyRecord) -> list[str]:
    """The titles of the timeline in order; for steps, their names."""
    response: Any = client.get(page_of(record))
    return [m.step.name if m.step else str(m.title) for m in response.context["timeline"]]


def test_timeline_tells_the_steps_of_an_attempt(admin: Client) -> None:
    """Between its claim and its release, in the order of their last runs."""
    record = left()
    step_of(record, "mail")
    done(record, "charge")
    then = [*titles(admin, record)]
    assert then == ["First request", "Claim of attempt 1", "charge", "mail", "Release",
                    "End of the lease", "Expiry"]  # fmt: skip


def test_step_says_how_it_stands(admin: Client) -> None:
    """Kind, status, number of runs, duration of the last one, and its error."""
    record = left()
    done(record, "bake", kind=StepKind.STEP)
    step_of(record, "courier", status=StepStatus.RETRYING, attempt=4, error="ConnectionError")
    step_of(record, "undo:bake", status=StepStatus.FAILED, kind=StepKind.UNDO)
    page = " ".join(read(admin, record).split())
    assert '<strong>Step</strong> <code>bake</code> <span class="idempotency-status' in page
    assert "1 run · took 250 ms" in page
    assert "<strong>Undo</strong> <code>bake</code>" in page
    assert "· 4 runs</div>" in page
    assert ">ConnectionError</code>" in page
    for status in ("completed", "retrying", "failed"):
        assert f'class="idempotency-step idempotency-step--{status}"' in page


@pytest.mark.parametrize(
    ("took", "words"),
    [
        (timedelta(milliseconds=-1), "took 0 ms"),
        (timedelta(milliseconds=31), "took 31 ms"),
        (timedelta(seconds=2.5), "took 2.5 s"),
        (timedelta(minutes=3), "took 3\xa0minutes"),
    ],
    ids=["backwards", "short", "seconds", "minutes"],
)
def test_duration_has_the_unit_that_fits(admin: Client, took: timedelta, words: str) -> None:
    """A clock that went back does not give a negative duration."""
    record = left()
    done(record, "charge", started_at=NOW - timedelta(hours=1) - took,
         completed_at=NOW - timedelta(hours=1))  # fmt: skip
    assert words in read(admin, record)


def test_outputs_are_for_those_who_may_see_responses() -> None:
    """On demand, and the log says which user looked."""
    record = left()
    done(record, "charge")
    assert client_of(VIEW, "complete").get(page_of(record) + "?outputs=1").status_code == 403
    assert "for those with the permission" in read(client_of(VIEW), record)
    client = client_of(VIEW, "view_response")
    assert "ch_1" not in read(client, record)
    assert not LogEntry.objects.exists()
    assert "{\n  &quot;id&quot;: &quot;ch_1&quot;\n}" in read(client, record, "?outputs=1")
    assert LogEntry.objects.get().change_message == "Looked at what steps returned."


def test_outputs_of_no_step_are_not_logged(admin: Client) -> None:
    """The user has seen none."""
    record = left()
    step_of(record)
    assert "?outputs=1" not in read(admin, record, "?outputs=1")
    assert not LogEntry.objects.exists()


def test_output_is_decoded(admin: Client, settings: Settings) -> None:
    """Or said to be encoded by a codec that is not there."""
    settings.IDEMPOTENCY_BODY_CODEC = "gzip"
    output, codec = codecs.encode(json.dumps("cake" * 400).encode())
    record = left()
    done(record, "charge", output=output, codec=codec)
    done(record, "refund", output=output, codec="fernet")
    page = read(admin, record, "?outputs=1")
    assert codec == "gzip"
    assert page.count("cake" * 400) == 1
    assert "Stored encoded (fernet)." in page


def test_long_output_is_cut(admin: Client) -> None:
    """An operation may have many outputs."""
    record = left()
    done(record, "charge", output=json.dumps("a" * 50_000).encode())
    page = read(admin, record, "?outputs=1")
    assert "There is more of it." in page
    assert len(page) < 40_000


def test_step_is_escaped(admin: Client) -> None:
    """Nothing runs that a view has named or returned."""
    record = left()
    done(record, "<script>1</script>", output=b'"<script>2</script>"', error="<script>3</script>")
    page = read(admin, record, "?outputs=1")
    assert not any(f"<script>{number}" in page for number in (1, 2, 3))
    assert page.count("&lt;script&gt;") >= 3


def test_many_steps_are_cut(admin: Client) -> None:
    """The latest are shown, by as many queries as one step needs."""
    record = left()
    for number in range(103):
        step_of(record, f"pack[{number}]", started_at=NOW - timedelta(seconds=200 - number))
    page = read(admin, record)
    assert "pack[2]" not in page
    assert "pack[3]" in page
    assert "pack[102]" in page
    assert "there are more" in page


def test_page_costs_one_query_more() -> None:
    """Session, user, two for permissions, record with stored request, steps; no output is read."""
    record = left()
    done(record, "charge")
    stored_for(record)
    client = client_of(VIEW)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(page_of(record)).status_code == 200
    asked = [query["sql"].replace("`", '"') for query in captured]
    assert len(asked) <= 6
    assert not any('."request"' in text for text in asked)
    outputs = [text for text in asked if '."output"' in text]
    assert [text.count('."output"') for text in outputs] == [1]
    assert 'LENGTH("django_idempotency_idempotencystep"."output")' in outputs[0]


@pytest.mark.parametrize("mark", ["begun", "step charge"])
def test_mark_of_the_protocol_is_no_error(admin: Client, mark: str) -> None:
    """While a record is in progress, the column has another meaning."""
    page = read(admin, running(error=mark, atomic=False))
    assert mark not in page
    assert "Last error" not in page


def test_stored_request_is_described(admin: Client) -> None:
    """When it is due, how often it was tried, and for which user; never its contents."""
    record = left()
    stored_for(record, error="DownError")
    page = read(admin, record)
    for words in (
        "Stored request",
        "in 10\xa0minutes",
        "<dd>2</dd>",
        "DownError",
        "<code>7</code>",
    ):
        assert words in page
    assert "secret" not in page
    assert "Due for a completer" in titles(admin, record)


def test_given_up_operation_says_so(admin: Client) -> None:
    """On its page and in the list."""
    record = left()
    stored_for(record, due_at=None, user_id="")
    page = read(admin, record)
    assert "it was given up, and a person has to look" in page
    assert "<dd>nobody</dd>" in page
    assert "Due for a completer" not in titles(admin, record)
    mark = 'idempotency-mark--given-up">given up</span>'
    assert mark in page
    assert mark in admin.get(LIST).content.decode()


def test_accepted_operation_is_not_stale(admin: Client) -> None:
    """It waits for its first attempt, so no attempt has left it."""
    record = abandoned(attempts=0)
    stored_for(record)
    assert titles(admin, record)[:2] == ["First request", "Accepted"]
    page = read(admin, record)
    assert "idempotency-mark--accepted" in page
    assert "stale" not in page
    assert "The same request, at once" in page
    listed: Any = admin.get(LIST, {"standing": "stale"})
    assert listed.context["cl"].result_list == []


def test_step_in_doubt_has_buttons_for_users_who_may_decide() -> None:
    """Other users only read that its outcome is unknown."""
    record = left()
    step_of(record)
    page = read(client_of(VIEW, "complete"), record)
    assert page.count('name="decision"') == 2
    page = read(client_of(VIEW, "release"), record)
    assert 'name="decision"' not in page
    assert "nobody knows" in page


@pytest.mark.parametrize("status", StepStatus)
@pytest.mark.parametrize(
    ("record", "is_over"),
    [
        (left, True),
        (abandoned, True),
        (lambda: running(atomic=False, lease_expires_at=NOW + timedelta(hours=1)), False),
        (made, False),
    ],
    ids=["released", "stale", "running", "completed"],
)  # fmt: skip
def test_only_a_step_in_doubt_has_buttons(
    admin: Client, status: StepStatus, record: Any, is_over: bool
) -> None:
    """One that is started or unknown, in an operation that does not run."""
    owner = record()
    step_of(owner, status=status)
    in_doubt = is_over and status in (StepStatus.STARTED, StepStatus.UNKNOWN)
    page = read(admin, owner)
    assert ('name="decision"' in page) is in_doubt
    assert ("interrupted" in page) is (in_doubt and status is StepStatus.STARTED)


@pytest.mark.parametrize(
    ("make", "has_button"),
    [
        (left, True),
        (abandoned, True),
        (lambda: running(atomic=False, lease_expires_at=NOW + timedelta(hours=1)), False),
    ],
    ids=["released", "stale", "running"],
)  # fmt: skip
def test_completer_has_a_button_unless_the_operation_runs(make: Any, has_button: bool) -> None:
    """And where there is a stored request, for users with the permission."""
    owner, allowed = make(), client_of(VIEW, "complete")
    assert "Run the completer" not in read(allowed, owner)
    stored_for(owner)
    assert ("Run the completer" in read(allowed, owner)) is has_button
    assert "Run the completer" not in read(client_of(VIEW), owner)


def test_key_with_recorded_steps_is_kept_for_the_same_request(admin: Client) -> None:
    """Without steps, a free key takes any request."""
    record = left(atomic=True)
    assert "runs at once, whatever it asks" in read(admin, record)
    done(record, "charge")
    assert "another one is refused" in read(admin, record)


@pytest.mark.parametrize(("standing", "found"), [("pending", ["waits"]), ("given-up", ["over"])])
def test_list_is_narrowed_to_stored_requests(
    admin: Client, standing: str, found: list[str]
) -> None:
    """To those that a completer will finish, or to those that it has given up."""
    stored_for(left("waits"))
    stored_for(left("over"), due_at=None)
    left("without")
    response: Any = admin.get(LIST, {"standing": standing})
    assert [record.key for record in response.context["cl"].result_list] == found
    assert f"idempotency-mark--{standing}" in response.content.decode()


def test_list_needs_no_query_for_stored_requests() -> None:
    """Five queries as for other lists, and the contents of the requests are not read."""
    for number in range(3):
        stored_for(left(f"key-{number}"))
    client = client_of(VIEW)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(LIST).status_code == 200
    assert len(captured) <= 5
    assert not any('."request"' in query["sql"].replace("`", '"') for query in captured)
