"""``python -m testproject.demo``: open a shop, play the scenes, close it; 0 if every line holds.

Letters play some of them: ``python -m testproject.demo c d``.
"""

import signal
import sys
from collections.abc import Sequence

from testproject.provider.server import open_provider
from testproject.serve import DEFAULT_ADDRESS

from . import gunicorn_conf
from .customers import Customer
from .scenes import SCENES, Outcome, Scene, Stage
from .server import open_shop

_OPENING = """
A cake shop on gunicorn ({workers} workers x {threads} threads), its order book in SQLite ({mode}).
Cakes are counted in the database and in a log outside of it. Payments, the courier and the mail are
a process of their own, with a ledger of its own.
"""

_CLOSING = """
See it yourself:

  make serve       then open http://{address}/ and go into the tunnel
  the admin        http://{address}/admin/, user demo, password demo
"""


def _play(scene: Scene, stage: Stage) -> Outcome:
    try:
        return scene(stage)
    except Exception as error:
        # An accident that is not in the script fails this line only.
        return Outcome("not played to the end", {f"{type(error).__name__}: {error}": False})


def _show(scene: Scene, outcome: Outcome) -> None:
    title = (scene.__doc__ or "").rstrip(".")
    print(f"{'✗' if outcome.broken else '✓'} {title}: {outcome.counted}")
    for line in [f"does not hold: {fact}" for fact in outcome.broken] or [outcome.moral]:
        print(f"      {line}", flush=True)


def _chosen(letters: Sequence[str]) -> list[Scene]:
    """The scenes with these letters; without letters all."""
    by_letter = {(scene.__doc__ or "")[1]: scene for scene in SCENES}
    if unknown := sorted(set(letters) - by_letter.keys()):
        raise SystemExit(f"no scene ({', '.join(unknown)}): there are {', '.join(by_letter)}")
    return [scene for letter, scene in by_letter.items() if not letters or letter in letters]


def _play_all(scenes: Sequence[Scene]) -> bool:
    """Whether every scene ended as it should."""
    with open_provider() as provider, open_shop(provider=provider.address) as shop:
        mode = shop.books.journal_mode().upper()
        print(
            _OPENING.format(workers=gunicorn_conf.workers, threads=gunicorn_conf.threads, mode=mode)
        )
        demo, guest = (Customer.logged_in(shop, name) for name in ("demo", "guest"))
        stage = Stage(shop, provider, demo, guest)
        outcomes = []
        for scene in scenes:
            outcomes.append(_play(scene, stage))
            _show(scene, outcomes[-1])
    return not any(outcome.broken for outcome in outcomes)


def main(letters: Sequence[str]) -> int:
    """Play the scenes with these letters, or all; the exit status."""
    scenes = _chosen(letters)
    # The default for SIGTERM would end us without closing the shop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    all_hold = _play_all(scenes)
    print(_CLOSING.format(address=DEFAULT_ADDRESS) if all_hold else "\nNot every line holds.")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
