"""What each view of the hammer's site promises: the site is built from it, the checker asks for it.

Durations are in seconds.
"""

from dataclasses import dataclass

#: How long a claim is trusted where no lock vouches for it; whoever is frozen for longer is a
#: zombie.
LEASE = 0.5


@dataclass(frozen=True, slots=True)
class Promise:
    """The options of one view."""

    atomic: bool = True
    wait: float = 0.0
    #: How long a reply is kept; None is longer than any run.
    retention: float | None = None


PROMISES = {
    "/once/": Promise(),
    "/patient/": Promise(wait=0.5),
    "/brief/": Promise(retention=2.0),
    "/plain/": Promise(atomic=False),
}
