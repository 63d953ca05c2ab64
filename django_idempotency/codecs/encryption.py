"""Encryption at rest, by ``cryptography``, an extra that only projects which encrypt import."""

from collections.abc import Iterable, Sequence

from cryptography.fernet import Fernet, MultiFernet
from django.core.exceptions import ImproperlyConfigured

from .. import conf


def _fernets(keys: Iterable[str | bytes]) -> list[Fernet]:
    fernets = []
    for number, key in enumerate(keys, 1):
        try:
            fernets.append(Fernet(key))
        except (TypeError, ValueError):
            # The message contains neither the key nor the error, which might show it.
            raise ImproperlyConfigured(
                f"{conf.PREFIX}FERNET_KEYS: number {number} is no Fernet key (32 bytes in URL-safe"
                " base64)."
            ) from None
    return fernets


class FernetCodec:
    """Fernet (AES-128-CBC with HMAC-SHA-256): encrypts with the first key, decrypts with any."""

    name = "fernet"

    def __init__(self) -> None:
        fernets = _fernets(self.get_keys())
        if not fernets:
            raise ImproperlyConfigured(
                f"fernet needs {conf.PREFIX}FERNET_KEYS, a list of keys with the newest first."
            )
        self._fernet = MultiFernet(fernets)

    def get_keys(self) -> Sequence[str | bytes]:
        """The keys, newest first; to be overridden where they do not come from the settings."""
        return conf.fernet_keys()

    def encode(self, body: bytes) -> bytes:
        return self._fernet.encrypt(body)

    def decode(self, body: bytes) -> bytes:
        """The body of a token; raises InvalidToken where no key fits."""
        return self._fernet.decrypt(body)
