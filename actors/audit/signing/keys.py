"""The keys that sign checkpoints: a file that holds one, and after a rotation the one before.

The file is PEM with Ed25519 keys in PKCS #8, as ``openssl genpkey -algorithm ed25519`` makes it.
The first key is the one in use.
"""

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from actors.audit.signing.notes import ED25519, Signature, VerifierKey
from actors.session.rejections import Rejection

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN_PREFIX = "sessiond/"
ORIGIN_DIGITS = 16
KEYS_MAX = 2
FILE_BYTES_MAX = 10_000

_PEM = re.compile(rb"-----BEGIN [^-]+-----.*?-----END [^-]+-----\n?", re.DOTALL)


class KeyFileError(Rejection):
    """A file's keys can't be used, or made; the message says why."""


class SigningKey:
    """An Ed25519 private key."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private
        self.public_key: bytes = private.public_key().public_bytes_raw()

    @property
    def origin(self) -> str:
        """Return what a log is called that was first signed by this key, and not named."""
        return ORIGIN_PREFIX + sha256(self.public_key).hexdigest()[:ORIGIN_DIGITS]

    def named(self, name: str) -> VerifierKey:
        """Return what others verify its signatures by."""
        return VerifierKey(name, ED25519, self.public_key)

    def sign(self, name: str, text: str) -> Signature:
        """Return a note's signature."""
        return Signature(name, self.named(name).id, self._private.sign(text.encode()))


def read_keys(path: Path) -> tuple[SigningKey, ...]:
    """Return the keys of a file, the one in use first. Raises KeyFileError."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise KeyFileError(f"The signing key {path} can't be read: {error.strerror}.") from error
    keys = tuple([_load(path, block) for block in _PEM.findall(content)])
    if not 1 <= len(keys) <= KEYS_MAX:
        raise KeyFileError(f"{path} must hold one signing key, or two after a rotation, as PEM.")
    return keys


def generate(path: Path) -> SigningKey:
    """Make a new key in a new file, which only its owner can read. Raises KeyFileError."""
    block = _new_block()
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(beside, block)
        path.hardlink_to(beside)  # whole at once, and only where there is none
    except FileExistsError as error:
        raise KeyFileError(f"There is a signing key in {path}: rotate it instead.") from error
    except OSError as error:
        raise KeyFileError(f"{path} can't be written: {error.strerror}.") from error
    finally:
        beside.unlink(missing_ok=True)
    return _load(path, block)


def read_or_generate(path: Path) -> tuple[SigningKey, ...]:
    """Return the keys of a file, which is made where it is missing. Raises KeyFileError."""
    if not path.exists():
        try:
            generate(path)
        except KeyFileError:
            if not path.exists():  # else another process was first
                raise
    return read_keys(path)


def rotate(path: Path) -> SigningKey:
    """Put a new key before the one in use, and forget any other. Raises KeyFileError."""
    read_keys(path)
    _replace(path, [_new_block(), _blocks(path)[0]])
    return read_keys(path)[0]


def retire(path: Path) -> bool:
    """Forget the key before the one in use; tell whether there was one. Raises KeyFileError."""
    if len(read_keys(path)) == 1:
        return False
    _replace(path, _blocks(path)[:1])
    return True


def _blocks(path: Path) -> list[bytes]:
    return _PEM.findall(path.read_bytes())


def _replace(path: Path, blocks: list[bytes]) -> None:
    """Write the file anew, all or nothing."""
    beside = _beside(path)
    try:
        _write_new(beside, b"".join([block.rstrip() + b"\n" for block in blocks]))
        beside.replace(path)
    except OSError as error:
        raise KeyFileError(f"{path} can't be written: {error.strerror}.") from error
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.new")


def _write_new(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _new_block() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load(path: Path, block: bytes) -> SigningKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(block, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} holds no key that can be read without a password.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} must hold an Ed25519 key, not another kind.")
    return SigningKey(key)
