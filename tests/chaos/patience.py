"""Whether any request waited for the replay cache longer, or oftener, than it may."""

from collections.abc import Iterable, Iterator, Sequence

from tests.redis import TIMEOUT_SECONDS
from tests.redis.waits import Wait, failures, too_soon

from .faults import Freeze
from .promises import RETRY

# More than thirty threads and two client processes make each other wait on any machine.
_BUSY_SECONDS = 10.0


def measured(waits: Iterable[Wait], freezes: Sequence[Freeze]) -> list[Wait]:
    """Those in which their worker did not stand still itself."""
    return [wait for wait in waits if not any(_overlaps(wait, freeze) for freeze in freezes)]


def impatient(waits: Sequence[Wait], freezes: Sequence[Freeze], servers: int = 1) -> Iterator[str]:
    """A sentence for each wait that was too long, in vain twice for one request, or too soon.

    So many ``servers`` may have been asked in vain before one answered. Of workers that were frozen
    meanwhile nothing is known.
    """
    known = measured(waits, freezes)
    for wait in known:
        if wait.seconds > servers * TIMEOUT_SECONDS + _BUSY_SECONDS:
            yield f"{wait} took {wait.seconds:.3f} s"
    for request, count in failures(known).items():
        if request and count > 1:
            yield f"{request} asked {count} times in vain"
    struck = {freeze.worker for freeze in freezes}
    for wait in too_soon([wait for wait in waits if wait.process not in struck], RETRY):
        yield f"{wait} came too soon"


def _overlaps(wait: Wait, freeze: Freeze) -> bool:
    return wait.process == freeze.worker and wait.began < freeze.ended and freeze.began < wait.ended
