"""The page's cookies: a token that nobody can read in them, for a limited time."""

import binascii
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
CSRF_BYTES = 16
COOKIE_CHARACTERS_MAX = 4_000


class Sealed(Struct, frozen=True):
    """What a cookie holds: a token, or none before anybody signed in; ``until`` in milliseconds."""

    token: str
    csrf: str
    until: int


class Seal:
    """Seals cookies (AES-256-GCM) with a key that is derived from a secret (HMAC-SHA-256)."""

    def __init__(self, secret: bytes) -> None:
        self._key = sha256(b"sessiond ui cookie\n" + hmac_digest(secret, b"ui", "sha256")).digest()

    def sealed(self, token: str, until: int) -> tuple[str, Sealed]:
        """Return a new cookie for a token, with a CSRF token of its own."""
        held = Sealed(token, secrets.token_urlsafe(CSRF_BYTES), until)
        nonce = secrets.token_bytes(NONCE_BYTES)
        box = self._cipher().encrypt(nonce, msgspec.json.encode(held), None)
        return urlsafe_b64encode(nonce + box).decode().rstrip("="), held

    def opened(self, cookie: str, now: int) -> Sealed | None:
        """Return what a cookie holds; None for one that is too old, or was not made here."""
        from cryptography.exceptions import InvalidTag

        try:
            box = urlsafe_b64decode(cookie[:COOKIE_CHARACTERS_MAX].encode() + b"==")
            if len(box) <= NONCE_BYTES:
                return None
            text = self._cipher().decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], None)
            held = msgspec.json.decode(text, type=Sealed)
        except (binascii.Error, ValueError, InvalidTag):
            return None
        return held if held.until > now else None

    def _cipher(self) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key)


def is_same(offered: str, expected: str) -> bool:
    """Tell whether a CSRF token is the expected one, in a time that says nothing about it."""
    return compare_digest(offered.encode(), expected.encode())
