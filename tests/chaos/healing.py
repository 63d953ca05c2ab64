"""After the storm: clients ask for every operation until it is finished, and for some once more."""

import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from .caller import Caller, Errand
from .history import Exchange, Operation
from .promises import PROMISES

_THREADS = 8
# For all of them. A key whose attempts died is left alone for up to 8 s after the last one (the
# longest grace), and a thousand keys are some seconds of work.
_PATIENCE = 90.0
_AUDITED = 2000


def heal(caller: Caller, history: Iterable[Exchange], seed: int) -> set[Operation]:
    """Finish what is unfinished, or may be; then ask again for a sample of what lasts.

    Returns the operations that could not be finished.
    """
    sent: dict[Operation, dict[str, bool]] = {}
    # A body that was cut was never taken for a request: there is nothing to finish.
    for exchange in (exchange for exchange in history if not exchange.is_half):
        payloads = sent.setdefault(exchange.operation, {})
        payloads[exchange.payload] = payloads.get(exchange.payload, False) or exchange.succeeded
    doubtful = [
        operation
        for operation, payloads in sent.items()
        if PROMISES[operation.path].expires or not any(payloads.values())
    ]
    deadline = time.monotonic() + _PATIENCE
    with ThreadPoolExecutor(_THREADS) as pool:
        finished = pool.map(
            lambda operation: _finish(caller, operation, list(sent[operation]), deadline), doubtful
        )
        stuck = {operation for operation, done in zip(doubtful, finished, strict=True) if not done}
    lasting = sorted(key for key in sent if not PROMISES[key.path].expires)
    audited = random.Random(seed).sample(lasting, min(_AUDITED, len(lasting)))
    errands = [Errand(*operation, payload) for operation in audited for payload in sent[operation]]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(caller.send, errands))
    return stuck


def _finish(caller: Caller, operation: Operation, payloads: list[str], deadline: float) -> bool:
    while time.monotonic() < deadline:
        if any(caller.send(Errand(*operation, payload)).succeeded for payload in payloads):
            return True
        time.sleep(0.05)
    return False
