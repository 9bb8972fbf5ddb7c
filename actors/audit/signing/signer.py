"""Signing where the streams end: the tree grows by a leaf for each that has moved."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from actors.audit.signing import notes
from actors.audit.signing.anchoring import missing
from actors.audit.signing.checkpoints import COSIGNED_WITHIN_EVENTS, Checkpoints, shown
from actors.audit.signing.events import CODEC, STREAM, CheckpointCosigned, CheckpointSigned
from actors.audit.signing.keys import KeyFileError, SigningKey
from actors.audit.signing.proofs import SignedCheckpoint
from actors.gateway_actor import UNLISTED
from actors.gateway_state import UsedKey, UseSigningKey
from actors.session.commands import GATEWAY
from actors.session.events import Event, Request, attributed
from actors.session.rejections import Rejection
from persistence import merkle
from persistence.errors import (
    ConflictError,
    CorruptLogError,
    PersistenceError,
    ProofError,
    StoreUnavailableError,
)
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.records import SHARED, Append, Claim, Head, Leaf, NewEvent, Node
from persistence.tree import Tree

LEAVES_MAX = 1_000
"""By how many leaves a checkpoint grows the tree: more would hold up what else is written."""

IN_A_ROW_MAX = 10_000
ATTEMPTS_MAX = 10
"""How often something is decided again because another process was ahead."""

ROTATION = "sessiond/key-rotation/v1"
"""What a statement that ties two keys begins with: no checkpoint has such a second line."""

logger = logging.getLogger(__name__)


class NoSigningKey(Rejection):
    """Nothing can be signed."""

    def __init__(self) -> None:
        super().__init__(
            "No key signs checkpoints: make one by sessiond keys generate, and set"
            " signing_key_file."
        )


class UnknownWitness(ProofError):
    """A cosignature is none of a witness that the settings name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} with this key is none of the witnesses in the settings.")


class CosignedTooLate(Rejection):
    """So much has followed a checkpoint that nobody looks for more cosignatures of it."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The checkpoint of size {size} is too old to be cosigned: take a newer.")


class Signer(Checkpoints):
    """Signs checkpoints, and takes their cosignatures.

    ``read_keys`` returns the keys that sign, the one in use first, or none. ``known_keys`` are
    those that the log has, ``use_key`` puts another one there. ``origin`` is what the log is to
    be called, empty for what it was called before. Nothing here keeps a prompt waiting.
    """

    def __init__(
        self,
        log: EventLog,
        tree: Tree,
        writer: GroupCommit,
        read_keys: Callable[[], Sequence[SigningKey]],
        known_keys: Callable[[], Sequence[UsedKey]],
        use_key: Callable[[UseSigningKey], object],
        now_ms: Callable[[], int],
        origin: str = "",
    ) -> None:
        super().__init__(log, tree)
        self._writer = writer
        self._read_keys = read_keys
        self._known_keys = known_keys
        self._use_key = use_key
        self._now_ms = now_ms
        self._origin = origin
        self._signing = threading.Lock()
        self._closed = False

    def origin(self, keys: Sequence[SigningKey]) -> str:
        """Return what the log is called: as configured, as before, or by its first key."""
        return origin_of(self._origin, self._known_keys()) or keys[-1].origin

    def sign_now(
        self, principal: str = GATEWAY, request: Request | None = None
    ) -> SignedCheckpoint | None:
        """Sign where all streams end now; None where no stream has moved but the checkpoints' own.

        A key that the log has not seen is put there first, which moves the gateway's. Blocks until
        it is durable. Raises NoSigningKey, KeyFileError, CorruptLogError where the tree is not the
        one that was signed before, or StoreUnavailableError.
        """
        with self._signing:
            signed, after_row = None, 0
            for _ in range(IN_A_ROW_MAX):
                batch = self._sign_some(after_row, principal, request)
                if batch is None:
                    break
                signed, after_row, more = batch
                if not more or self._closed:
                    break
            return signed

    def sign_if_due(self, period_s: float) -> None:
        """Sign, unless another process has just done so; what goes wrong is logged."""
        try:
            latest = self.latest()
            due_ms = 0 if latest is None else latest.at + period_s * 1_000 / 2
            if not self._closed and self._now_ms() >= due_ms:
                self.sign_now()
        except (PersistenceError, KeyFileError, NoSigningKey) as error:
            if not self._closed:
                logger.error("No checkpoint was signed: %s", error)

    def rebuild(self) -> int:
        """Add to the tree's tables what the log says is missing there; return how many leaves.

        Whoever empties the tables first has them made anew. Blocks; raises CorruptLogError where
        the log is not what was signed, ConflictError where a checkpoint is signed meanwhile.
        """
        with self._signing:
            head = self._claim()
            leaves, nodes = missing(self._log, self._tree)
            append = Append(head, (), UNLISTED, leaves=tuple(leaves), nodes=tuple(nodes))
            self._writer.submit(append).result()
            return len(leaves)

    def close(self, timeout_s: float) -> None:
        """Begin no further checkpoint, and wait for one that is being signed."""
        self._closed = True
        if self._signing.acquire(timeout=timeout_s):
            self._signing.release()

    def cosign(
        self,
        size: int,
        line: str,
        witnesses: Iterable[notes.VerifierKey],
        principal: str = GATEWAY,
        request: Request | None = None,
    ) -> bool | None:
        """Add a witness's signature to a checkpoint, durably; tell whether it was new.

        None where there is no such checkpoint. Raises ProofError where it is none of a witness,
        or of this checkpoint, CosignedTooLate, or StoreUnavailableError.
        """
        signature = notes.parse_signature(line)
        key = next((each for each in witnesses if (each.name, each.id) == _whose(signature)), None)
        if key is None:
            raise UnknownWitness(signature.name)
        for _attempt in range(ATTEMPTS_MAX):
            with contextlib.suppress(ConflictError):
                return self._cosign(size, signature, key, principal, request)
        raise StoreUnavailableError("Others write checkpoints all the time; try again.")

    def _cosign(
        self,
        size: int,
        signature: notes.Signature,
        key: notes.VerifierKey,
        principal: str,
        request: Request | None,
    ) -> bool | None:
        head = self._claim()
        checkpoint = self.at(size)
        if checkpoint is None:
            return None
        note = notes.parse_note(checkpoint.note)
        notes.verify_signature(note.text, signature, key)
        if any(_whose(each) == _whose(signature) for each in note.signatures):
            return False
        late = head.version - checkpoint.seq >= COSIGNED_WITHIN_EVENTS
        if late or len(note.signatures) == notes.SIGNATURES_MAX:
            raise CosignedTooLate(size)
        event = CheckpointCosigned(size, signature.name, str(signature), self._now_ms())
        self._append(head, event, principal, request)
        return True

    def _sign_some(
        self, after_row: int, principal: str, request: Request | None
    ) -> tuple[SignedCheckpoint, int, bool] | None:
        """Sign some streams' ends; return the checkpoint, the last one's row, whether to go on."""
        for _attempt in range(ATTEMPTS_MAX):
            if not self._moved(after_row) and not self._must_introduce():
                return None
            keys = self._keys()
            head = self._claim()
            heads = self._moved(after_row)  # read after the claim: a conflict tells of another's
            if not heads:
                return None
            with contextlib.suppress(ConflictError):
                signed = self._sign(head, heads, keys, principal, request)
                return signed, heads[-1].row, len(heads) == LEAVES_MAX
        raise StoreUnavailableError("Others sign checkpoints all the time; try again.")

    def _moved(self, after_row: int) -> list[Head]:
        """Return the streams that have gone on, none where it is only this one."""
        heads = self._tree.moved(after_row=after_row, limit=LEAVES_MAX)
        return heads if any(each.stream_id != STREAM for each in heads) else []

    def _must_introduce(self) -> bool:
        """Tell whether a log that was signed before is about to be signed by another key."""
        known = {each.verifier_key for each in self._known_keys()}
        keys = self._read_keys() if known else ()
        return bool(keys) and str(keys[0].named(self.origin(keys))) not in known

    def _keys(self) -> Sequence[SigningKey]:
        """Return the keys that sign, once the log has the one in use."""
        keys = self._read_keys()
        if not keys:
            raise NoSigningKey
        origin = self.origin(keys)
        shown_keys = [str(key.named(origin)) for key in keys]
        if shown_keys[0] not in {each.verifier_key for each in self._known_keys()}:
            use = UseSigningKey(self._now_ms(), shown_keys[0])
            if len(keys) > 1:
                statement = _rotation(shown_keys[1], shown_keys[0], origin, keys)
                use = UseSigningKey(self._now_ms(), shown_keys[0], shown_keys[1], statement)
            self._use_key(use)
        return keys

    def _sign(
        self,
        head: Head,
        heads: Sequence[Head],
        keys: Sequence[SigningKey],
        principal: str,
        request: Request | None,
    ) -> SignedCheckpoint:
        size, root = self._signed_size(head)
        leaves = [merkle.leaf_data(each.stream_id, each.version, each.hash) for each in heads]
        growth = _grown(size, map(merkle.leaf_hash, leaves), self._tree)
        if growth is None or growth.old_root != root:
            raise CorruptLogError(STREAM, head.version, "the tree is not the one that was signed")
        origin = self.origin(keys)
        text = notes.Checkpoint(origin, growth.size, growth.root).text
        note = notes.Note(text, tuple([key.sign(origin, text) for key in keys]))
        event = CheckpointSigned(
            growth.size,
            growth.root.hex(),
            str(note),
            tuple([(each.stream_id, each.version) for each in heads]),
            self._now_ms(),
        )
        added = [
            Leaf(index, each.row, each.version) for index, each in enumerate(heads, start=size)
        ]
        written = self._append(head, event, principal, request, added, growth.nodes)
        return SignedCheckpoint(
            event.note, event.size, growth.root, event.at, written.version, len(heads)
        )

    def _signed_size(self, head: Head) -> tuple[int, bytes]:
        stored = self._signed_before(head, head.version + 1)
        if stored is None:
            return 0, merkle.EMPTY_ROOT
        signed = shown(stored)
        return signed.size, signed.root

    def _claim(self) -> Head:
        return self._writer.submit(Claim(STREAM, SHARED)).result()

    def _append(
        self,
        head: Head,
        event: Event,
        principal: str,
        request: Request | None,
        leaves: Iterable[Leaf] = (),
        nodes: Iterable[Node] = (),
    ) -> Head:
        (event,) = attributed((event,), request)
        new = NewEvent(event.wire_name, event.schema_version, CODEC.encode(event), principal)
        append = Append(head, (new,), UNLISTED, leaves=tuple(leaves), nodes=tuple(nodes))
        return self._writer.submit(append).result()


def origin_of(configured: str, known: Sequence[UsedKey]) -> str:
    """Return what a log is called: as configured, or as before; empty where it was never signed."""
    if configured or not known:
        return configured
    return notes.parse_verifier_key(known[-1].verifier_key).name


def check_rotation(used: UsedKey) -> bool:
    """Tell whether both keys have signed that the one follows the other."""
    try:
        old, new = map(notes.parse_verifier_key, (used.replaced, used.verifier_key))
        note = notes.parse_note(used.statement)
        signed = notes.verify_note(note, [old, new])
    except ProofError:
        return False
    return set(signed) == {old, new} and note.text == _rotation_text(str(old), str(new))


def _grown(size: int, leaves: Iterable[bytes], tree: Tree) -> merkle.Growth | None:
    """Return what the stored tree becomes, None where nodes of it are missing."""
    try:
        return merkle.grow(size, leaves, tree.nodes)
    except ProofError:
        return None


def _rotation(old: str, new: str, origin: str, keys: Sequence[SigningKey]) -> str:
    text = _rotation_text(old, new)
    return str(notes.Note(text, tuple([key.sign(origin, text) for key in keys])))


def _rotation_text(old: str, new: str) -> str:
    return f"{ROTATION}\nold {old}\nnew {new}\n"


def _whose(signature: notes.Signature) -> tuple[str, bytes]:
    return signature.name, signature.key_id
