"""Encryption at rest: payloads and states under a key of their stream, which can be destroyed.

A stream's data key encrypts by AES-256-GCM; the master key, which lies in a file, wraps data keys
(AES key wrap, RFC 3394). Wrapped keys lie in a database of their own, or beside the log. What is
stored is ``0x01 ‖ key id (8) ‖ nonce (12) ‖ ciphertext and tag``, authenticated with the stream's
name; of an event it is salt and payload together, and the column ``salt`` is empty, which marks
it. The digest is then stored at once: it is over the clear text, as in any log.
"""

import base64
import binascii
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from persistence import chain
from persistence.engine import is_sqlite, parse_url, translated_errors
from persistence.errors import CorruptLogError, PersistenceError
from persistence.records import StoredEvent
from persistence.stream_keys import KeyStore, StoredKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
KEY_ID_BYTES = 8
NONCE_BYTES = 12
KEY_BYTES = 32
HEADER_BYTES = len(VERSION) + KEY_ID_BYTES + NONCE_BYTES
SEALED_SALT = b""
"""Stands in the column of an encrypted event's salt."""

CACHED_MAX = 10_000
CHECK = ""
"""The name under which a key is kept that encrypts nothing: by it a wrong master key is noticed."""


class VaultError(PersistenceError):
    """What is encrypted can't be used; the message says what to do."""


class _Key(Struct, frozen=True):
    id: bytes
    stream_id: str
    cipher: "AESGCM"


class Vault:
    """Encrypts what the log stores, and decrypts it. May be used by several threads.

    Raises VaultError at once when the master key is not the one that wrapped what is stored.
    """

    def __init__(
        self,
        master_key: bytes,
        keys: KeyStore,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._master_key = master_key
        self._keys = keys
        self._random_bytes = random_bytes
        self._lock = threading.RLock()
        self._writing: dict[str, _Key] = {}
        self._known: dict[bytes, _Key | None] = {}
        check = keys.newest(CHECK)
        if check is None:
            self._make(CHECK)
        else:
            self._unwrapped(check)

    def seal_events(self, stream_id: str, events: Iterable[StoredEvent]) -> list[StoredEvent]:
        """Return events as they are stored; those without a payload stay as they are."""
        key = self._key_for(stream_id)
        return [self._sealed_event(key, event) for event in events]

    def seal(self, stream_id: str, text: bytes) -> bytes:
        """Return a state as it is stored; nothing stays nothing."""
        return self._sealed(self._key_for(stream_id), text) if text else text

    def open_event(self, stream_id: str | None, event: StoredEvent) -> StoredEvent:
        """Return an event as it was written; without its key it is erased.

        ``stream_id`` is None where the reader doesn't know it. Raises CorruptLogError.
        """
        if event.salt != SEALED_SALT or event.payload is None:
            return event
        try:
            text = self._opened(stream_id, event.payload)
        except _DamagedError as error:
            raise CorruptLogError(stream_id or "a stream", event.seq, str(error)) from error
        if text is None:
            return replace(event, payload=None, salt=None)
        return replace(
            event,
            payload=text[chain.SALT_BYTES :],
            salt=text[: chain.SALT_BYTES],
            payload_digest=chain.DERIVED
            if chain.digest_of(b"", text) == event.payload_digest
            else event.payload_digest,
        )

    def open(self, stream_id: str, stored: bytes) -> bytes | None:
        """Return a state as it was written; None without its key. Raises CorruptLogError."""
        if stored[:1] != VERSION:
            return stored
        try:
            return self._opened(stream_id, stored)
        except _DamagedError as error:
            raise CorruptLogError(stream_id, 0, str(error)) from error

    def renew(self, stream_id: str) -> None:
        """Encrypt what is written to a stream from now on by another key."""
        with self._lock:
            self._writing[stream_id] = self._make(stream_id)

    def forget(self, stream_id: str) -> None:
        """Look anew which key a stream has: another process may have renewed it."""
        with self._lock:
            self._writing.pop(stream_id, None)

    def destroy_earlier(self, stream_id: str) -> None:
        """Destroy all keys of a stream but the one that it is written by."""
        with self._lock:
            kept = self._key_for(stream_id)
            for key_id in self._keys.delete_others(stream_id, kept.id):
                self._known[key_id] = None

    def rewrap(self, master_key: bytes) -> int:
        """Wrap all keys by another master key, all or none; return how many there are."""
        with self._lock:
            count = self._keys.rewrite(lambda each: _wrap(master_key, self._unwrapped(each)))
            self._master_key = master_key
            return count

    def close(self) -> None:
        """Give back the connections, and forget the keys."""
        with self._lock:
            self._writing.clear()
            self._known.clear()
        self._keys.close()

    def _sealed_event(self, key: _Key, event: StoredEvent) -> StoredEvent:
        if event.payload is None or event.salt is None:
            return event
        return replace(
            event,
            payload=self._sealed(key, event.salt + event.payload),
            salt=SEALED_SALT,
            payload_digest=event.payload_digest or chain.digest_of(event.salt, event.payload),
        )

    def _sealed(self, key: _Key, text: bytes) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        return VERSION + key.id + nonce + key.cipher.encrypt(nonce, text, key.stream_id.encode())

    def _opened(self, stream_id: str | None, stored: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        key_id = stored[1 : 1 + KEY_ID_BYTES]
        if stored[:1] != VERSION or len(stored) < HEADER_BYTES:
            raise _DamagedError("what is encrypted has another form")
        key = self._known_key(key_id)
        if key is None:
            return None
        if stream_id not in (None, key.stream_id):
            raise _DamagedError("what is encrypted belongs to another stream")
        nonce = stored[1 + KEY_ID_BYTES : HEADER_BYTES]
        try:
            return key.cipher.decrypt(nonce, stored[HEADER_BYTES:], key.stream_id.encode())
        except InvalidTag as error:
            raise _DamagedError("what is encrypted was changed") from error

    def _key_for(self, stream_id: str) -> _Key:
        """Return the key that a stream is written by, a new one where it has none."""
        with self._lock:
            key = self._writing.get(stream_id)
            if key is None:
                stored = self._keys.newest(stream_id)
                key = self._make(stream_id) if stored is None else self._usable(stored)
                _bound(self._writing)
                self._writing[stream_id] = key
            return key

    def _known_key(self, key_id: bytes) -> _Key | None:
        with self._lock:
            if key_id in self._known:
                return self._known[key_id]
            stored = self._keys.find(key_id)
            if stored is None:  # not kept: it may be restored from a backup
                return None
            return self._usable(stored)

    def _make(self, stream_id: str) -> _Key:
        """Make a key; it is durable before anything is encrypted by it.

        Where the master key was exchanged meanwhile there would be no way back to it: VaultError.
        """
        data_key = self._random_bytes(KEY_BYTES)
        key_id = self._random_bytes(KEY_ID_BYTES)
        stored = StoredKey(key_id, stream_id, _wrap(self._master_key, data_key))
        self._keys.add(stored, self._unwrapped)
        return self._usable(stored)

    def _usable(self, stored: StoredKey) -> _Key:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = _Key(stored.id, stored.stream_id, AESGCM(self._unwrapped(stored)))
        _bound(self._known)
        self._known[stored.id] = key
        return key

    def _unwrapped(self, stored: StoredKey) -> bytes:
        from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

        try:
            return aes_key_unwrap(self._master_key, stored.wrapped)
        except InvalidUnwrap as error:
            raise VaultError(
                "The master key is not the one that wrapped the streams' keys: "
                "check encryption_key_file and encryption_keys_url."
            ) from error


class _DamagedError(Exception):
    """What is stored can't be decrypted, though its key is there."""


def read_master_key(file: str) -> bytes:
    """Return the key in a file: 32 bytes as base64. Raises VaultError."""
    try:
        key = base64.b64decode(Path(file).read_text(encoding="ascii").strip(), validate=True)
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise VaultError(f"encryption_key_file: {file} can't be read: {error}") from error
    if len(key) != KEY_BYTES:
        raise VaultError(
            f"encryption_key_file: {file} must hold {KEY_BYTES} bytes as base64; "
            "sessiond encryption generate makes such a file."
        )
    return key


def _wrap(master_key: bytes, data_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    return aes_key_wrap(master_key, data_key)


def _bound(cache: dict[Any, Any]) -> None:
    """Make room for another entry; the oldest goes."""
    if len(cache) >= CACHED_MAX:
        del cache[next(iter(cache))]


def open_vault(
    log_url: sa.URL, reader: sa.Engine, key_file: str | None, keys_url: str | None
) -> Vault | None:
    """Return what encrypts a log; None where it is not to be encrypted, and isn't.

    Raises VaultError where what is encrypted could not be read.
    """
    if key_file is None:
        if is_sealed(reader):
            raise VaultError(
                "The log is encrypted: set encryption_key_file to its master key's file."
            )
        return None
    master_key = read_master_key(key_file)
    where = parse_url(keys_url) if keys_url else keys_beside(log_url)
    keys = KeyStore(where)
    if keys.newest(CHECK) is None and is_sealed(reader):
        raise VaultError(
            f"The log is encrypted, and there is no key in {where}: restore the keys' database, "
            "or set encryption_keys_url to where it is."
        )
    return Vault(master_key, keys)


def keys_beside(log_url: sa.URL) -> sa.URL:
    """Return where a log's keys lie unless it is said otherwise."""
    if not is_sqlite(log_url):
        return log_url
    return log_url.set(database=f"{log_url.database}.keys")


def is_sealed(reader: sa.Engine) -> bool:
    """Tell whether the newest event of a log is encrypted."""
    query = sa.text("SELECT salt FROM events ORDER BY position DESC LIMIT 1")
    with translated_errors(), reader.connect() as connection:
        salt = connection.execute(query).scalar_one_or_none()
    return salt is not None and bytes(salt) == SEALED_SALT
