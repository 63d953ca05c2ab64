"""Open the shop for a person, with its partners and a completer: ``python -m testproject.serve``.

An argument ``address:port`` says where; ``--redis`` puts a cache of replays on a Valkey in front of
the database. Whoever sets ``SHOP_PROVIDER_URL`` has partners already, and ``SHOP_REDIS`` a Redis.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import django
from django.core.management import call_command

from . import completers
from .provider.server import Provider

DEFAULT_ADDRESS = "127.0.0.1:8000"
_VAR = Path(__file__).resolve().parent / "var"
_PROVIDER, _REDIS = "SHOP_PROVIDER_URL", "SHOP_REDIS"

_SIGN = """
  The cake shop    http://{address}/
  The tunnel       http://{address}/tunnel/
  The API          http://{address}/api/docs/
  The admin        http://{address}/admin/    demo / demo
  A second person  guest / guest
  Their partners   {provider}/ledger

  Order through the API, and send the same lines again:

    TOKEN=$(curl -s http://{address}/api/token/ -d username=demo -d password=demo | cut -d'"' -f4)
    curl -i http://{address}/api/orders/ -H "Authorization: Bearer $TOKEN" \\
      -H "Idempotency-Key: my-first-cake" -d cake=lemon -d icing=Ada

  Have one paid and brought to the door, at once, or later:

    curl -i http://{address}/api/deliveries/ -H "Authorization: Bearer $TOKEN" \\
      -H "Idempotency-Key: my-second-cake" -d cake=lemon -d icing=Ada -d address="4 Rue Morgue"
    curl -i http://{address}/api/deliveries/later/ -H "Authorization: Bearer $TOKEN" \\
      -H "Idempotency-Key: my-third-cake" -d cake=lemon -d icing=Ada -d address="4 Rue Morgue"

  Let the next card be declined, or the courier not answer, and order once more:

    curl -X PUT {provider}/mood -d '{{"charges": {{"mood": "decline", "times": 1}}}}'
    curl -X PUT {provider}/mood -d '{{"pickups": {{"mood": "fail", "times": 5}}}}'
"""


@contextmanager
def _provider() -> Iterator[str]:
    """The address of the shop's partners, who live as long as the block."""
    if known := os.environ.get(_PROVIDER):
        yield known
        return
    provider = Provider(_VAR)
    try:
        provider.start()
        yield provider.address
    finally:
        provider.stop()


_CACHED = """
  Replays come from Redis while they are young. What it is asked, and what lies there:

    redis-cli -u {redis} monitor
    redis-cli -u {redis} --scan --pattern '*idempotency*'
"""


@contextmanager
def _cached(wanted: bool) -> Iterator[None]:
    """A Valkey, as the tests start it, that lives as long as the block."""
    if not wanted or os.environ.get(_REDIS):
        yield
        return
    # Only with this option: the shop works without the tests, and their servers.
    from tests.support.servers import Valkey

    with Valkey() as valkey:
        os.environ[_REDIS] = valkey.url
        yield


@contextmanager
def _opened() -> Iterator[str]:
    """A shop that is ready for visitors, and its partners' address."""
    _VAR.mkdir(exist_ok=True)
    with _provider() as address:
        os.environ[_PROVIDER] = address
        django.setup()
        call_command("open_shop")
        with completers.completing(_VAR / "completer.log", os.environ):
            yield address


def main() -> None:
    """Make the database ready, print the addresses and serve until Ctrl-C, a thread per request."""
    parser = argparse.ArgumentParser(prog="python -m testproject.serve", description=__doc__)
    parser.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help="address:port")
    parser.add_argument("--redis", action="store_true", help="replays come from a Valkey")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    os.environ.setdefault("SHOP_DEBUG", "1")
    # The default for SIGTERM would end us without closing what we started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with suppress(KeyboardInterrupt), _cached(options.redis), _opened() as provider:
        print(_SIGN.format(address=options.address, provider=provider), flush=True)
        if redis := os.environ.get(_REDIS):
            print(_CACHED.format(redis=redis), flush=True)
        call_command("runserver", options.address, use_reloader=False)


if __name__ == "__main__":
    main()
