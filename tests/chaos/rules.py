"""What must hold of one operation: each rule is a promise, and looks at a :class:`Case`.

A rule yields a sentence for each violation, and its name is the violation's. A request without an
answer may have done anything.
"""

from collections.abc import Callable, Iterator

from .case import CLOCKS, Case, World
from .history import Exchange
from .promises import FENCED, LEASE, MAX_AGE

# What a view's own bug, and a database that is not there, are as a 500.
_ERRORS = {"Crash", "OperationalError", "InterfaceError"}
# Statuses the site can answer, with the codes the layer gives them; the view's own have none.
_EXPECTED = {
    201: {""},
    400: {""},
    409: {"idempotency_in_progress"},
    422: {"idempotency_key_reused"},
}

Rule = Callable[[Case], Iterator[str]]


def effect_twice(case: Case) -> Iterator[str]:
    """Effects per key: at most one, with a retention one in each, and one more for each expiry."""
    if not case.promise.atomic:
        return
    if case.promise.recalled:
        if len(case.effects) > 1 + len(case.recalls):
            yield f"{len(case.effects)} effects, expired {len(case.recalls)} times"
        return
    for before, after in zip(case.effects, case.effects[1:], strict=False):
        if case.promise.retention is None:
            yield f"{before.nonce} and {after.nonce}"
        elif after.at - before.at < case.promise.retention - CLOCKS:
            yield f"{before.nonce} and {after.nonce}, {after.at - before.at:.3f} s apart"


def success_without_effect(case: Case) -> Iterator[str]:
    """Any 2xx means an effect, and this very one."""
    known = {row.nonce for row in case.effects}
    for success in case.successes:
        if success.nonce not in known and success.nonce not in case.world.owners:
            yield f"{success.request} was told of {success.nonce}"


def strangers_reply(case: Case) -> Iterator[str]:
    """A reply reaches only the caller that made the operation."""
    for exchange in case.exchanges:
        owner = case.world.owners.get(exchange.nonce, case.operation)
        if owner != case.operation:
            yield f"{exchange.request} was told of {exchange.nonce} of {owner}"


def wrong_reply(case: Case) -> Iterator[str]:
    """No caller gets the reply to a request that it did not send."""
    payloads = {row.nonce: row.payload for row in case.rows}
    for success in case.successes:
        if payloads.get(success.nonce, success.payload) != success.payload:
            yield f"{success.request} was told of {payloads[success.nonce]}"


def replies_differ(case: Case) -> Iterator[str]:
    """All 2xx of a life are equal, byte by byte."""
    for life in case.lives():
        if len(digests := {success.digest for success in life}) > 1:
            yield " and ".join(sorted(digests))


def two_first_replies(case: Case) -> Iterator[str]:
    """At most one 2xx of a life is not marked as a replay."""
    for life in case.lives():
        first = [success.request for success in life if not success.marked]
        if len(first) > 1:
            yield " and ".join(first)


def unmarked_replay(case: Case) -> Iterator[str]:
    """A 2xx without the mark of a replay comes from the request's own run."""
    makers = {row.nonce: row.request for row in case.effects}
    for success in case.successes:
        if not success.marked and makers.get(success.nonce, success.request) != success.request:
            yield f"{success.request} was told of the run of {makers[success.nonce]}"


def forgotten_reply(case: Case) -> Iterator[str]:
    """After a 2xx has ended the same request gets it, and another one 422."""
    for life in case.lives():
        for success, until in case.kept_since(life):
            for later in case.exchanges:
                if later.began > success.ended and later.ended < until:
                    yield from _forgets(case, success, later)


def _forgets(case: Case, success: Exchange, later: Exchange) -> Iterator[str]:
    if later.status is None or _is_excused(later, case.world):
        return
    if later.payload != success.payload:
        fine = later.status == 422
    else:
        fine = later.digest == success.digest and later.marked
    # A worker that the database refused may have put up its fence late.
    is_late_fence = case.world.is_fenced and later.status == 409
    if is_late_fence and later.began < success.ended + FENCED:
        return
    if not fine:
        yield f"{later.request} got {later.status} {later.nonce} after {success.request}"


def _is_excused(exchange: Exchange, world: World) -> bool:
    """An error while faults are on, which the view did not raise by itself."""
    return (
        (exchange.status or 0) >= 500
        and exchange.began < world.calm_since
        and not _is_own(exchange)
    )


def _is_own(exchange: Exchange) -> bool:
    return bool(exchange.nonce) or exchange.code == "Crash"


def refused_and_done(case: Case) -> Iterator[str]:
    """A request that is refused had no effect; only the layer's 503 leaves that open."""
    if not case.promise.atomic:
        return
    for exchange in case.exchanges:
        unknown = exchange.status is None or exchange.code == "idempotency_unavailable"
        if not (unknown or exchange.succeeded) and exchange.request in case.effective:
            yield f"{exchange.request} got {exchange.status} and has an effect"


def failure_kept(case: Case) -> Iterator[str]:
    """What a run wrote that was to answer 5xx is not there."""
    if not case.promise.atomic:
        return
    for row in case.rows:
        if row.outcome >= 500:
            yield f"{row.nonce}, which was to answer {row.outcome}"


def refusal_lost(case: Case) -> Iterator[str]:
    """What a view wrote and refused with 400 is there."""
    known = {row.nonce for row in case.rows}
    for exchange in case.exchanges:
        if exchange.status == 400 and exchange.nonce not in known:
            yield f"{exchange.request} was told of {exchange.nonce}"


def ran_for_nothing(case: Case) -> Iterator[str]:
    """A replay, a 422 and half a request never ran the view, and no request runs it twice."""
    for exchange in case.exchanges:
        runs = case.world.runs.get(exchange.request, 0)
        never = exchange.marked or exchange.status == 422 or exchange.is_half
        if runs > (0 if never else 1):
            yield f"{exchange.request} got {exchange.status} and ran {runs} times"


def false_mismatch(case: Case) -> Iterator[str]:
    """A 422 needs another request that was sent before, and all of it."""
    whole = [exchange for exchange in case.exchanges if not exchange.is_half]
    for exchange in whole:
        if exchange.status == 422 and not any(
            other.payload != exchange.payload and other.began < exchange.ended for other in whole
        ):
            yield exchange.request


def replayed_after_expiry(case: Case) -> Iterator[str]:
    """A reply is not given for longer than lease and retention together."""
    if case.promise.retention is None:
        return
    kept_for = LEASE + case.promise.retention + CLOCKS
    for life in case.lives():
        ends = [success.ended for success in life if not success.marked]
        for success in life:
            if ends and success.marked and success.began > max(ends) + kept_for:
                yield f"{success.request}, {success.began - max(ends):.3f} s after"


def replayed_after_recall(case: Case) -> Iterator[str]:
    """What had expired before the request began is not replayed.

    Where the replay cache has not confirmed it, or may have lost it, at least not for long.
    """
    is_doubtful = case.world.may_lose or case.operation in case.world.restored
    is_doubtful = is_doubtful or any(recall.restored for recall in case.recalls)
    for recall in (recall for recall in case.recalls if recall.done):
        is_sure = recall.forgotten and not is_doubtful
        until = recall.ended + (0.0 if is_sure else MAX_AGE + CLOCKS)
        over = {success.nonce for success in case.successes if success.ended < recall.began}
        for success in case.successes:
            if success.marked and success.nonce in over and success.began > until:
                yield f"{success.request}, {success.began - recall.ended:.3f} s after"


def error_without_fault(case: Case) -> Iterator[str]:
    """When the faults are over, the view's own errors are the only ones."""
    for exchange in case.exchanges:
        failed = (exchange.status or 0) >= 500 and not _is_own(exchange)
        if failed and exchange.began > case.world.calm_since:
            yield f"{exchange.request} got {exchange.status} {exchange.code}"


def unexpected_answer(case: Case) -> Iterator[str]:
    """There are no other answers than those of the documentation."""
    for exchange in case.exchanges:
        status = exchange.status or 503
        expected = _ERRORS if status == 500 else _EXPECTED.get(status, ())
        if status != 503 and exchange.code not in expected:
            yield f"{exchange.request} got {status} {exchange.code}"


RULES: tuple[Rule, ...] = (
    effect_twice,
    success_without_effect,
    strangers_reply,
    wrong_reply,
    replies_differ,
    two_first_replies,
    unmarked_replay,
    forgotten_reply,
    refused_and_done,
    failure_kept,
    refusal_lost,
    ran_for_nothing,
    false_mismatch,
    replayed_after_expiry,
    replayed_after_recall,
    error_without_fault,
    unexpected_answer,
)
