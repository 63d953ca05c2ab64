"""The command line: prints a plan, or carries it out and says whether every promise was kept."""

import argparse
import signal
import sys
from collections.abc import Sequence

from tests.redis.groups import GROUPS
from tests.support.servers import UNAVAILABLE, ServerUnavailableError

from .arena import DATABASES, Cache
from .hammer import Orders, run
from .plan import plan


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="repeats the schedule (default: 1)")
    parser.add_argument("--database", choices=DATABASES, default="postgresql")
    parser.add_argument("--cache", choices=GROUPS, help="a replay cache, which is broken as well")
    parser.add_argument("--fence", action="store_true", help="which also answers duplicates")
    parser.add_argument("--print-plan", action="store_true", help="and do nothing else")
    parser.add_argument("--keep", action="store_true", help="leave histories and logs there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """0 if every promise was kept, 1 if not."""
    options = parse(arguments)
    is_server, is_cached = options.database != "sqlite", options.cache is not None
    faults = plan(options.seed, options.seconds, server=is_server, cache=is_cached)
    if options.print_plan:
        print(*faults, sep="\n")
        return 0
    cache = Cache(options.cache, fence=options.fence) if is_cached else None
    orders = Orders(
        options.database, options.seed, options.seconds, faults, cache, keep=options.keep
    )
    # An end by SIGTERM unwinds like any other, so that nothing is left running or frozen.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return run(orders)
    except ServerUnavailableError as error:
        print(f"tests.chaos: {error}", file=sys.stderr)
        return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
