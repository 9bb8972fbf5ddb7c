"""Whose memory a session has. Pure."""

import re

from msgspec import Struct

STREAM_PREFIX = "memory:"

_COMPANION = re.compile(r"agent:(.+):companion:.+")


class Identity(Struct, frozen=True):
    """Whose memory it is: ``key`` begins with its ``scope``, as in ``agent:a7``."""

    key: str
    scope: str

    @property
    def stream_id(self) -> str:
        """Return the name of the memory's stream."""
        return STREAM_PREFIX + self.key


def identity_of(session_key: str, configured: str) -> Identity:
    """Return whose memory a session has: its agent's, or else the configured one.

    A key ``agent:<id>:companion:<any>`` is that agent's.
    """
    companion = _COMPANION.fullmatch(session_key)
    key = f"agent:{companion[1]}" if companion else configured
    return Identity(key, key.partition(":")[0])
