"""What each view of the hammer's site promises: the site is built from it, the checker asks for it.

Durations are in seconds.
"""

from dataclasses import dataclass

#: How long a claim is trusted where no lock vouches for it; a worker frozen for longer is a zombie.
LEASE = 0.5

#: How long an entry of the replay cache counts at most: what a lost invalidation may cost.
MAX_AGE = 3.0
#: How long the replay cache is left alone when it has failed.
RETRY = 1.0
#: How long after a reply its fence may refuse duplicates: a second, and as long as the worker that
#: put it up was frozen on the way.
FENCED = 1.0 + LEASE * 3 + 1.0

#: Where a worker may be told to stop: before its claim, between claim and row lock, in the view,
#: between the completing UPDATE and COMMIT, between COMMIT (or a look into the database) and the
#: replay cache, and before its reply.
POINTS = ("before-claim", "after-claim", "in-view", "before-commit", "before-fill", "after-commit")


@dataclass(frozen=True, slots=True)
class Promise:
    """The options of one view."""

    atomic: bool = True
    wait: float = 0.0
    #: How long a reply is kept; None is longer than any run.
    retention: float | None = None
    #: Whether a clerk expires its keys now and then.
    recalled: bool = False

    @property
    def expires(self) -> bool:
        """Whether a key may be in another life by now."""
        return self.recalled or self.retention is not None


PROMISES = {
    "/once/": Promise(),
    "/patient/": Promise(wait=0.5),
    "/brief/": Promise(retention=2.0),
    "/plain/": Promise(atomic=False),
    "/recalled/": Promise(recalled=True),
}
