"""Where orders become cakes, and where every baking is written down outside the database.

A database row disappears with its transaction; a line in the kitchen's log does not. So the log
counts how often a view ran, the order book how often it took effect.
"""

import json
import os
import time

from django.conf import settings

from . import gates
from .models import Order


def _write_down(order: Order) -> None:
    entry = {
        "ticket": str(order.ticket),
        "cake": order.cake,
        "icing": order.icing,
        "pid": os.getpid(),
        "ppid": os.getppid(),
    }
    line = json.dumps(entry).encode() + b"\n"
    log = os.open(settings.SHOP_KITCHEN_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # One write to a file opened with O_APPEND: lines of several workers never mix (POSIX).
        os.write(log, line)
    finally:
        os.close(log)


def bake(order: Order, seconds: float = 0.0) -> None:
    """Write the baking down, then take ``seconds`` over it, and longer while the oven is shut."""
    _write_down(order)
    time.sleep(seconds)
    gates.go_through(gates.Gate.OVEN)
