"""What ``SHOP_DATABASE`` says, as an entry of Django's ``DATABASES``."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# A cake bakes for up to 5 seconds and SQLite has one write lock: a person behind three others
# still gets her cake.
_BUSY_TIMEOUT_SECONDS = 20


def _sqlite(path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            # A deferred transaction that read first cannot wait for the write lock (SQLITE_BUSY).
            "transaction_mode": "IMMEDIATE",
            "timeout": _BUSY_TIMEOUT_SECONDS,
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }


def _postgresql(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        # libpq takes the folder of a Unix socket as ?host=/folder, where no host name fits.
        "HOST": options.pop("host", parts.hostname or ""),
        "PORT": str(parts.port or options.pop("port", "")),
        "OPTIONS": options,
    }


def database(address: str) -> dict[str, Any]:
    """The settings of the database at ``address``: a ``postgresql://`` URL or SQLite's path."""
    if address.startswith(("postgresql://", "postgres://")):
        return _postgresql(address)
    return _sqlite(Path(address))
