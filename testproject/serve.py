"""Open the shop for a person: ``python -m testproject.serve [address:port]``."""

import argparse
import os

import django
from django.core.management import call_command

DEFAULT_ADDRESS = "127.0.0.1:8000"

_SIGN = """
  The cake shop    http://{address}/
  The tunnel       http://{address}/tunnel/
  The API          http://{address}/api/docs/
  The admin        http://{address}/admin/    demo / demo
  A second person  guest / guest

  Order through the API, and send the same line again:

    curl -i http://{address}/api/orders/ -H "Authorization: Bearer $(curl -s \\
      http://{address}/api/token/ -d username=demo -d password=demo | cut -d'"' -f4)" \\
      -H "Idempotency-Key: my-first-cake" -d cake=lemon -d icing=Ada
"""


def main() -> None:
    """Make the database ready, print the addresses and serve until Ctrl-C, a thread per request."""
    parser = argparse.ArgumentParser(prog="python -m testproject.serve", description=__doc__)
    parser.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help="address:port")
    address = parser.parse_args().address
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    os.environ.setdefault("SHOP_DEBUG", "1")
    django.setup()
    call_command("open_shop")
    print(_SIGN.format(address=address), flush=True)
    call_command("runserver", address, use_reloader=False)


if __name__ == "__main__":
    main()
