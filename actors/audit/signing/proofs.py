"""That a stream's events are the ones that were signed: proofs that can be checked anywhere. Pure.

It takes the public keys alone: no database, no gateway.
"""

from collections.abc import Collection

from msgspec import Struct

from actors.audit.signing.notes import Checkpoint, VerifierKey, verify_checkpoint
from persistence.errors import ProofError
from persistence.merkle import leaf_data, leaf_hash, verify_inclusion

__all__ = ["ProofError", "SignedCheckpoint", "StreamProof", "check_proof"]


class SignedCheckpoint(Struct, frozen=True):
    """A checkpoint as the log has it.

    ``note`` is its text with all signatures, ``seq`` its place in the stream ``checkpoints``,
    ``leaves`` by how many the tree had grown, ``at`` when, in milliseconds since the epoch.
    """

    note: str
    size: int
    root: bytes
    at: int
    seq: int
    leaves: int


class StreamProof(Struct, frozen=True):
    """That a stream had the event of ``hash`` at ``version`` when the checkpoint was signed.

    ``checkpoint`` is the signed note, ``index`` the leaf's, ``inclusion`` its audit path.
    """

    checkpoint: str
    index: int
    version: int
    hash: bytes
    inclusion: tuple[bytes, ...]


def check_proof(
    stream_id: str, proof: StreamProof, public_keys: Collection[VerifierKey]
) -> Checkpoint:
    """Check a proof and return what its checkpoint says. Raises ProofError."""
    checkpoint = verify_checkpoint(proof.checkpoint, public_keys)
    leaf = leaf_hash(leaf_data(stream_id, proof.version, proof.hash))
    verify_inclusion(proof.index, checkpoint.size, leaf, proof.inclusion, checkpoint.root)
    return checkpoint
