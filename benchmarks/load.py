"""How many requests a second a site answers with each contestant's protection, and without.

``python -m benchmarks.load`` starts PostgreSQL, Valkey and every contestant's site, 2 workers with
4 threads, and lets wrk send bare requests, fresh keys and replays over 8 and over 32 connections,
in short slices that take turns in an order that changes. Everybody is compared with the bare view
of his own site. Exits 1 if one of our own answers was not what it should be.
"""

import argparse
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import psycopg

from benchmarks import wrk
from benchmarks.environments import ROOT, UnusableError, environment_of, variables, versions
from benchmarks.figures import circumstances, ratio, save, spread
from benchmarks.serving import SERVERS, THREADS, WORKERS, served
from benchmarks.sites.contestants import CONTESTANTS, Contestant
from benchmarks.sites.orders.request import BARE_PATH, BODY, HEADER, PATH
from tests.support.servers import (
    REDIS_VARIABLE,
    UNAVAILABLE,
    PostgreSQL,
    ServerUnavailableError,
    Valkey,
)

#: What the others are compared with comes first.
BARE, FRESH, REPLAY = KINDS = ("bare", "fresh", "replay")
#: Has no site: it is for requests inside one process.


@dataclass
class Site:
    """One contestant's, and what wrk got from it for each number of connections and kind."""

    contestant: Contestant
    address: str
    #: The URL of his database.
    database: str
    slices: dict[tuple[int, str], list[wrk.Answers]] = field(default_factory=dict)
    #: Orders that the replays of so many connections have left.
    again: Counter[int] = field(default_factory=Counter)
    #: Of its replays: the same in each slice.
    seed: int = field(default_factory=lambda: random.randrange(1 << 30))

    def send(self, connections: int, kind: str, seconds: float) -> wrk.Answers:
        """One slice."""
        return wrk.send(
            self.address + (BARE_PATH if kind == BARE else PATH),
            connections=connections,
            seconds=seconds,
            kind=kind,
            seed=self.seed if kind == REPLAY else random.randrange(1 << 30),
            header=HEADER,
            body=BODY.decode(),
        )

    def measure(self, connections: int, kind: str, seconds: float) -> None:
        """One slice that counts."""
        kept = self.slices.setdefault((connections, kind), [])
        before = self.orders() if kind == REPLAY else 0
        kept.append(self.send(connections, kind, seconds))
        if kind == REPLAY:
            self.again[connections] += self.orders() - before

    def orders(self) -> int:
        """How many there are: who replays the right answer may still have run the view again."""
        with psycopg.connect(self.database) as connection:
            found = connection.execute("SELECT count(*) FROM orders_order").fetchone()
        return int(found[0]) if found else 0

    def wrong(self, connections: int, kind: str) -> dict[str, int]:
        """Answers that are not 201; replays that are not the first answer, or ran the view."""
        found: Counter[str] = Counter()
        for answers in self.slices[connections, kind]:
            found.update(answers.others("201"))
            if kind == REPLAY:
                # The first of each connection, which has a thread of its own, repeats nothing.
                found["changed"] += max(0, answers.count - answers.repeated - connections)
        if kind == REPLAY:
            found["run again"] = self.again[connections]
        return {name: count for name, count in found.items() if count}

    def figures(self, connections: int, kind: str) -> dict[str, Any]:
        """Of all slices: orders done a second, beside the bare ones too, and seconds of one."""
        slices, base = self.slices[connections, kind], self.slices[connections, BARE]
        rates, bare = [each.rate("201") for each in slices], [each.rate("201") for each in base]
        return {
            "answers": sum(each.count for each in slices),
            "rate": spread(rates),
            "ratio": ratio(rates, bare),
            "p50": spread([each.p50 for each in slices]),
            "p99": spread([each.p99 for each in slices]),
            "wrong": self.wrong(connections, kind),
        }


def start(stack: ExitStack, contestant: Contestant, server: str, database: str) -> Site:
    """His site, with empty tables; raises UnusableError."""
    environment = environment_of(contestant)
    own = variables(contestant, database)
    command = [str(environment.python), "-m", "benchmarks.sites.prepare"]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=os.environ | own, capture_output=True, text=True
    )
    if done.returncode:
        raise UnusableError(done.stderr.strip().splitlines()[-1])
    address = stack.enter_context(served(server, environment.python, own))
    return Site(contestant, address, database_of(contestant, database))


def database_of(contestant: Contestant, server: str) -> str:
    """The URL of his own on a server, as benchmarks.sites.databases names it."""
    name = "bench_" + contestant.name.replace("-", "_")
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def start_all(stack: ExitStack, names: Sequence[str], server: str, database: str) -> list[Site]:
    """Those that can be started; says which cannot."""
    sites = []
    for name in names:
        try:
            sites.append(start(stack, CONTESTANTS[name], server, database))
        except UnusableError as error:
            print(f"{name} does not run here: {error}", flush=True)
    return sites


def packages(sites: Sequence[Site]) -> Iterator[str]:
    """What is installed in the environments, those with the same Django in one line."""
    found: dict[str, list[str]] = {}
    for site in sites:
        environment = environment_of(site.contestant)
        pinned = [line for line in environment.files[-1].read_text().split() if "==" in line]
        found.setdefault(versions(environment), []).extend(pinned or [site.contestant.name])
    for django, names in found.items():
        yield f"{django}: {', '.join(names)}"


def warm_up(sites: Sequence[Site], connections: int) -> list[Site]:
    """Compile, connect, give each key that is replayed its first request; who takes orders."""
    ready = []
    for site in sites:
        answers = {kind: site.send(connections, kind, 1) for kind in KINDS}
        if answers[BARE].statuses.get("201"):
            ready.append(site)
        else:
            print(f"{site.contestant.name} does not run here: {answers[BARE]}", flush=True)
    return ready


def run(sites: Sequence[Site], options: argparse.Namespace) -> None:
    """All slices, in turns."""
    for number in range(options.slices):
        turns = [(site, count, kind) for site in sites for count, kind in counts(options)]
        random.shuffle(turns)
        for site, count, kind in turns:
            site.measure(count, kind, options.seconds)
        print(f"{number + 1} of {options.slices} rounds", file=sys.stderr)


def counts(options: argparse.Namespace) -> Iterator[tuple[int, str]]:
    """Each number of connections with each kind."""
    for connections in options.connections:
        for kind in KINDS:
            yield connections, kind


def show(found: Mapping[str, Mapping[str, Mapping[str, Any]]], connections: int) -> None:
    """A table."""
    print(f"\n{connections} connections: orders a second, of the bare view's; one's ms")
    print(f"{'':<37}{'kind':<8}{'a second':>9}  {'of bare':<17}{'p50':>7}{'p99':>8}")
    for name, kinds in found.items():
        for kind, its in kinds.items():
            wrong = ", ".join(f"{count} x {what}" for what, count in its["wrong"].items())
            print(
                f"{name:<37}{kind:<8}{its['rate'].median:9,.0f}  {its['ratio']!s:<17}"
                f"{its['p50'].median * 1000:7.1f}{its['p99'].median * 1000:8.1f}  {wrong}".rstrip()
            )


def measure(options: argparse.Namespace, database: str, about: list[str]) -> int:
    """All of it; the exit status."""
    with ExitStack() as stack:
        started = start_all(stack, options.only, options.server, database)
        sites = warm_up(started, max(options.connections))
        about += packages(sites)
        print("\n".join(about), flush=True)
        run(sites, options)
    found = {
        str(connections): {
            site.contestant.name: {kind: site.figures(connections, kind) for kind in KINDS}
            for site in sites
        }
        for connections in options.connections
    }
    for connections in options.connections:
        show(found[str(connections)], connections)
    section = "load" if options.server == "gunicorn" else f"load-{options.server}"
    save(section, about, found)
    ours = [site for site in sites if site.contestant.is_ours]
    return int(any(site.wrong(*each) for site in ours for each in counts(options)))


def version_of(url: str) -> str:
    """PostgreSQL's."""
    with psycopg.connect(url) as connection:
        return str(connection.info.parameter_status("server_version"))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    names = [name for name, contestant in CONTESTANTS.items() if not contestant.is_floor]
    parser.add_argument("--slices", type=int, default=5, help="of each kind, three or more")
    parser.add_argument("--seconds", type=float, default=3, help="of a slice")
    parser.add_argument("--connections", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--server", choices=SERVERS, default="gunicorn")
    parser.add_argument("--only", nargs="+", metavar="CONTESTANT", choices=names, default=names)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Parse, start the servers, measure."""
    options = parse(arguments)
    try:
        wrk.program()
        with PostgreSQL() as server, Valkey() as valkey:
            os.environ[REDIS_VARIABLE] = valkey.url
            told = valkey.info("server")["valkey_version"]
            about = circumstances(PostgreSQL=version_of(server.url), Valkey=told)
            about.append(
                f"{options.server}, {WORKERS} workers x {THREADS} threads; {wrk.version()}"
            )
            return measure(options, server.url, about)
    except ServerUnavailableError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
