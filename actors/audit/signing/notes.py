"""Signed notes, checkpoints of a tree and cosignatures, as C2SP specifies them. Pure.

c2sp.org/signed-note, c2sp.org/tlog-checkpoint and c2sp.org/tlog-cosignature, with Ed25519. A note
is text and signature lines; a checkpoint is a note whose text says a log's origin, the size of
its tree and the root. Anything that could be spelled in two ways is refused in all but one.
"""

import binascii
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from hashlib import sha256

from msgspec import Struct

from persistence.errors import ProofError

ED25519 = 0x01
"""Signs the note's text."""

COSIGNATURE = 0x04
"""Signs the time, in seconds since the epoch, and the note's text."""

NOTE_CHARACTERS_MAX = 100_000
SIGNATURES_MAX = 100
KEY_ID_BYTES = 4
PUBLIC_KEY_BYTES = 32
ROOT_BYTES = 32
SIZE_DIGITS_MAX = 19
TIME_BYTES = 8
TIME_S_MAX = 2**63 - 1

_DASH = "\u2014 "


class VerifierKey(Struct, frozen=True):
    """Whose signature is believed: a name, a kind of signature, and an Ed25519 public key."""

    name: str
    kind: int
    public_key: bytes

    @property
    def id(self) -> bytes:
        """Return the four bytes that tell signatures of this key."""
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return sha256(named).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        encoded = b64encode(bytes([self.kind]) + self.public_key).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"


class Signature(Struct, frozen=True):
    """One signature of a note; ``key_id`` with the name tells whose it is."""

    name: str
    key_id: bytes
    content: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {b64encode(self.key_id + self.content).decode()}"


class Note(Struct, frozen=True):
    """A text, which ends with a newline, and its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join([f"{each}\n" for each in self.signatures])


class Checkpoint(Struct, frozen=True):
    """What the text of a checkpoint says; ``extensions`` are further lines."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return the text to sign."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join([f"{line}\n" for line in lines])


def parse_verifier_key(text: str) -> VerifierKey:
    """Return a key from its text, ``name+id+key``. Raises ProofError."""
    name, _, rest = text.partition("+")
    shown_id, _, encoded = rest.partition("+")
    check_name(name)
    content = _decoded(encoded, "a verifier key")
    key = VerifierKey(name, content[0] if content else 0, content[1:])
    if key.kind not in (ED25519, COSIGNATURE) or len(key.public_key) != PUBLIC_KEY_BYTES:
        raise ProofError(f"{text!r} is no verifier key of Ed25519: name+id+base64 is one.")
    if key.id.hex() != shown_id:
        raise ProofError(f"The verifier key {text!r} has the id {key.id.hex()}: a typing error?")
    return key


def parse_verifier_keys(text: str) -> tuple[VerifierKey, ...]:
    """Return the keys of a text with one in a line; ``#`` begins a remark. Raises ProofError."""
    lines = [line.strip() for line in text.splitlines()]
    return tuple([parse_verifier_key(line) for line in lines if line and line[0] != "#"])


def parse_note(content: str) -> Note:
    """Return a note from its text. Raises ProofError."""
    if len(content) > NOTE_CHARACTERS_MAX:
        raise ProofError(f"A note has {NOTE_CHARACTERS_MAX} characters at most.")
    if any(each < " " and each != "\n" for each in content):
        raise ProofError("A note has no control characters.")
    text, gap, signed = content.rpartition("\n\n")
    lines = signed.split("\n")
    if not gap or not text or lines[-1] != "" or not 1 < len(lines) <= SIGNATURES_MAX + 1:
        raise ProofError("This is no signed note: text, an empty line, and signature lines.")
    return Note(text + "\n", tuple([parse_signature(line) for line in lines[:-1]]))


def parse_signature(line: str) -> Signature:
    """Return a signature from its line, without the line's end. Raises ProofError."""
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH):
        raise ProofError(f"{line!r} is no signature line: a dash (U+2014), a name, base64.")
    check_name(name)
    content = _decoded(encoded, "a signature")
    if len(content) <= KEY_ID_BYTES:
        raise ProofError("A signature is longer than its key's id.")
    return Signature(name, content[:KEY_ID_BYTES], content[KEY_ID_BYTES:])


def parse_checkpoint(text: str) -> Checkpoint:
    """Return what a checkpoint's text says, signatures left out. Raises ProofError."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "" or "" in lines:
        raise ProofError("This is no checkpoint: its lines are an origin, a size and a root.")
    origin, size, encoded, *extensions = lines
    root = _decoded(encoded, "a root")
    digits = size.isascii() and size.isdigit() and len(size) <= SIZE_DIGITS_MAX
    if not digits or str(int(size)) != size:
        raise ProofError(f"{size[:SIZE_DIGITS_MAX]!r} is no size of a tree.")
    if len(root) != ROOT_BYTES:
        raise ProofError(f"A root has {ROOT_BYTES} bytes.")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def check_name(name: str) -> None:
    """Raise ProofError where it can't be the name of a key, or the origin of a log."""
    wrong = any(each.isspace() or unicodedata.category(each) == "Cc" for each in name)
    if not name or "+" in name or wrong:
        raise ProofError(f"{name!r} is no name of a key: no spaces, no +, and not empty.")


def verify_note(note: Note, keys: Collection[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Return those of the keys that signed the note. Raises ProofError where none did.

    One wrong signature of a known key is enough to refuse the note; unknown ones are ignored.
    """
    known = {(key.name, key.id): key for key in keys}
    signed = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            verify_signature(note.text, signature, key)
            signed.append(key)
    if not signed:
        signers = ", ".join([f"{each.name}+{each.key_id.hex()}" for each in note.signatures])
        raise ProofError(
            f"The note is not signed by any of the known keys but by {signers}. After a rotation "
            "the new verifier key must be known too: sessiond keys list, or GET /audit/keys."
        )
    return tuple(dict.fromkeys(signed))


def verify_checkpoint(content: str, keys: Collection[VerifierKey]) -> Checkpoint:
    """Return what a signed checkpoint says.

    Raises ProofError where no known key of the log itself signed it: a cosignature is not enough.
    """
    note = parse_note(content)
    checkpoint = parse_checkpoint(note.text)
    verify_note(note, [key for key in keys if key.kind == ED25519])
    return checkpoint


def verify_signature(text: str, signature: Signature, key: VerifierKey) -> None:
    """Check one signature of a text. Raises ProofError."""
    content, message = signature.content, text.encode()
    if key.kind == COSIGNATURE:
        time, content = content[:TIME_BYTES], content[TIME_BYTES:]
        message = cosigned_message(int.from_bytes(time), text)
    if (signature.name, signature.key_id) != (key.name, key.id) or not _holds(
        key.public_key, content, message
    ):
        raise ProofError(f"The signature of {signature.name} is not one of this text.")


def cosigned_message(time_s: int, text: str) -> bytes:
    """Return what a witness signs. Raises ProofError for a time that is none."""
    if time_s > TIME_S_MAX:
        raise ProofError("The cosignature's time is none.")
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def cosigned_at_s(signature: Signature) -> int:
    """Return when a witness signed, in seconds since the epoch."""
    return int.from_bytes(signature.content[:TIME_BYTES])


def with_signatures(note: Note, signatures: Sequence[Signature]) -> Note:
    """Return the note with further signatures."""
    return Note(note.text, (*note.signatures, *signatures))


def _holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _decoded(encoded: str, what: str) -> bytes:
    """Return base64 decoded; of two spellings of the same bytes only the usual one is taken."""
    try:
        content = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProofError(f"{encoded!r} is no base64 of {what}.") from error
    if b64encode(content).decode() != encoded:
        raise ProofError(f"{encoded!r} is no base64 of {what}.")
    return content
