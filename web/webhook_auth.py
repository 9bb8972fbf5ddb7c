"""Whether a webhook comes from somebody who knows the secret. Pure.

Either the secret itself is sent, or a signature: ``sha256=`` and the HMAC-SHA256, in hexadecimal,
of ``<timestamp>.<body>`` under the secret, with the timestamp in seconds since the epoch beside it.
"""

import hmac
import re
from hashlib import sha256

SECRET_HEADERS = ("X-Webhook-Secret", "X-Pi-Webhook-Secret")
SIGNATURE_HEADER = "X-Webhook-Signature"
TIMESTAMP_HEADER = "X-Webhook-Timestamp"

_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def is_secret(offered: str, secret: str) -> bool:
    """Tell whether the secret was sent, in a time that says nothing about it."""
    return hmac.compare_digest(
        _digest(offered.encode("utf-8", "replace")), _digest(secret.encode())
    )


def signature_of(timestamp: str, body: bytes, secret: str) -> str:
    """Return the signature of a body sent at that time."""
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, sha256)
    return f"sha256={signed.hexdigest()}"


def is_signed(
    signature: str, timestamp: str, body: bytes, secret: str, *, now_s: float, tolerance_s: float
) -> bool:
    """Tell whether the body was signed with the secret, and lately."""
    if not _TIMESTAMP.fullmatch(timestamp) or abs(now_s - int(timestamp)) > tolerance_s:
        return False
    expected = signature_of(timestamp, body, secret)
    return hmac.compare_digest(
        _digest(signature.encode("utf-8", "replace")), _digest(expected.encode())
    )


def _digest(text: bytes) -> bytes:
    return sha256(text).digest()
