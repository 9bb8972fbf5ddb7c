"""Who may come in: the token of the settings, and the named ones, as they are now."""

import hmac
import secrets
import threading
from collections.abc import Callable, Mapping
from hashlib import sha256

from msgspec import Struct

from actors.gateway_state import Token
from web.inputs import RESERVED_NAME
from web.operations import ADMIN, SCOPES

MARK = "sd"
SECRET_BYTES = 32
ID_BYTES = 6
ANONYMOUS = "anonymous"
_NOBODY = bytes(32)


class Access(Struct, frozen=True):
    """What a request may do, and who the log says asked for it."""

    principal: str
    scopes: frozenset[str]
    key_prefix: str = ""
    token_id: str = ""

    def may(self, scope: str) -> bool:
        """Tell whether the scope is allowed."""
        return scope in self.scopes or ADMIN in self.scopes

    def sees(self, key: str) -> bool:
        """Tell whether the session of that key is there for the request at all."""
        return key.startswith(self.key_prefix)

    def narrowed(self, prefix: str) -> str | None:
        """Return the prefix of the keys that are seen and begin with ``prefix``; None: none are."""
        if self.key_prefix.startswith(prefix):
            return self.key_prefix
        return prefix if prefix.startswith(self.key_prefix) else None


EVERYTHING = frozenset(SCOPES)
NOTHING: frozenset[str] = frozenset()


class Tokens:
    """Finds what a bearer token allows, in a time that says nothing about it.

    Without the settings' token, and as long as none was ever issued, everybody is let in.
    """

    def __init__(self, token: str | None) -> None:
        self._environment = None if token is None else sha256(token.encode()).digest()
        self._named: Mapping[str, Token] = {}
        self._streams: dict[str, set[Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def install(self, tokens: Mapping[str, Token]) -> None:
        """Make these the tokens from now on, and end the streams of those that are revoked."""
        self._named = tokens
        ends: list[Callable[[], None]] = []
        with self._lock:
            for token_id in list(self._streams):
                if token_id in tokens and tokens[token_id].revoked_at is not None:
                    ends.extend(self._streams.pop(token_id))
        for end in ends:
            end()

    @property
    def required(self) -> bool:
        """Tell whether a request needs a token."""
        return self._environment is not None or bool(self._named)

    @property
    def named(self) -> list[Token]:
        """Return the tokens that were issued, the oldest first."""
        return list(self._named.values())

    def issued(self, token_id: str) -> Token:
        """Return what is kept of a token."""
        return self._named[token_id]

    def access(self, offered: str) -> Access | None:
        """Return what a token allows, None for one that is none, or is revoked."""
        digest = sha256(offered.encode("utf-8", "replace")).digest()
        if self._environment is not None and hmac.compare_digest(digest, self._environment):
            return Access(principal_of(RESERVED_NAME), EVERYTHING)
        token = self._named.get(_public_part(offered))
        known = _NOBODY if token is None else bytes.fromhex(token.digest)
        if not hmac.compare_digest(digest, known) or token is None:
            return None
        if token.revoked_at is not None:
            return None
        return Access(
            principal_of(token.name), frozenset(token.scopes), token.key_prefix, token.token_id
        )

    def watch(self, token_id: str, end: Callable[[], None]) -> None:
        """Call ``end`` when the token is revoked; at once where it is."""
        with self._lock:
            token = self._named.get(token_id)
            if token is not None and token.revoked_at is None:
                self._streams.setdefault(token_id, set()).add(end)
                return
        if token is not None:
            end()

    def unwatch(self, token_id: str, end: Callable[[], None]) -> None:
        """Forget what ``watch`` was told."""
        with self._lock:
            watching = self._streams.get(token_id)
            if watching is not None:
                watching.discard(end)
                if not watching:
                    del self._streams[token_id]


def new_token() -> tuple[str, str]:
    """Return a token's public id, and the whole token, of 256 random bits."""
    token_id = secrets.token_hex(ID_BYTES)
    return token_id, f"{MARK}-{token_id}-{secrets.token_urlsafe(SECRET_BYTES)}"


def principal_of(name: str) -> str:
    """Return who the log says asked, for a token of that name."""
    return f"token:{name}"


def _public_part(token: str) -> str:
    parts = token.split("-", 2)
    return parts[1] if len(parts) == 3 and parts[0] == MARK else ""
