"""What a signed checkpoint says of a stream: up to where it is vouched for, or not what it has."""

from collections.abc import Callable, Collection

from msgspec import Struct
from msgspec.structs import replace

from actors.audit.signing.anchoring import Finding as Anchored
from actors.audit.signing.anchoring import rebuilt
from actors.audit.signing.checkpoints import Checkpoints
from actors.audit.signing.events import STREAM
from actors.audit.signing.notes import VerifierKey
from actors.audit.signing.proofs import check_proof
from actors.audit.verifying.segments import Finding
from actors.audit.verifying.verification import ATTEMPTS_MAX, Since, StreamReport, verify_stream
from persistence.errors import CorruptLogError, ProofError
from persistence.event_log import EventLog
from persistence.raw_rows import CHUNK_ROWS, RawRows
from persistence.tree import Tree


class Vouched(Struct, frozen=True):
    """The event of ``hash`` at ``seq``, and so all before it, in the signed tree of that size."""

    seq: int
    hash: bytes
    size: int
    root: bytes
    origin: str


class Verified(Struct, frozen=True):
    """What was found in a stream, and up to where the latest checkpoint vouches for it."""

    report: StreamReport
    vouched: Vouched | None


def vouched_for(
    checkpoints: Checkpoints, stream_id: str, keys: Collection[VerifierKey]
) -> Vouched | None:
    """Return what the latest checkpoint has of a stream, proved; None where it has nothing.

    Raises CorruptLogError where the log doesn't have it any more, or not so.
    """
    proof = checkpoints.proof(stream_id)
    if proof is None:
        return None
    try:
        signed = check_proof(stream_id, proof, keys)
    except (ProofError, KeyError) as error:
        raise CorruptLogError(stream_id, proof.version, f"not as it was signed: {error}") from error
    return Vouched(proof.version, proof.hash, signed.size, signed.root, signed.origin)


def verify_vouched(
    raw: RawRows,
    checkpoints: Checkpoints,
    keys: Collection[VerifierKey],
    stream_id: str,
    *,
    from_checkpoint: bool = False,
    pause: Callable[[], object] = lambda: None,
    chunk_rows: int = CHUNK_ROWS,
) -> Verified | None:
    """Verify a stream and what the latest checkpoint has of it; None where there is no stream.

    ``from_checkpoint`` reads only what follows the event that is vouched for.
    """
    vouched, error = None, None
    try:
        vouched = vouched_for(checkpoints, stream_id, keys)
    except (CorruptLogError, ProofError) as found:
        error = found
    since = Since(vouched.seq, vouched.hash) if vouched is not None and from_checkpoint else None
    report = verify_stream(raw, stream_id, since=since, pause=pause, chunk_rows=chunk_rows)
    if report is not None and error is not None:
        report = replace(report, findings=(*report.findings, contradiction(error, report)))
    return None if report is None else Verified(report, vouched)


def contradiction(error: CorruptLogError | ProofError, report: StreamReport) -> Finding:
    """Return what is wrong with a stream where the latest checkpoint doesn't vouch for it."""
    if not isinstance(error, CorruptLogError):
        return Finding(report.seq, f"the latest checkpoint can't be believed: {error}")
    if error.seq > report.seq:
        return Finding(report.seq + 1, f"cut off: a signed checkpoint has seq {error.seq}")
    return Finding(error.seq, error.problem)


def tree_damage(log: EventLog, tree: Tree) -> list[Anchored]:
    """Return where the tree's tables are not what the checkpoints lead to, the first place."""
    damage: list[Anchored] = []
    for _attempt in range(ATTEMPTS_MAX):
        head = log.head(STREAM)
        damage = _tree_damage(log, tree)
        if not damage or log.head(STREAM) == head:
            break  # else the tree has grown meanwhile
    return damage


def _tree_damage(log: EventLog, tree: Tree) -> list[Anchored]:
    size = nodes_count = 0
    try:
        for leaves, nodes in rebuilt(log, tree):
            size, nodes_count = size + len(leaves), nodes_count + len(nodes)
            found = tree.nodes([(each.level, each.index) for each in nodes])
            wrong = leaves and tree.leaves(leaves[0].index, len(leaves)) != leaves
            if wrong or any(found.get((each.level, each.index)) != each.hash for each in nodes):
                problem = f"the tree's tables differ from it below size {size}"
                return [Anchored(STREAM, 0, f"{problem}: sessiond checkpoint --rebuild")]
    except CorruptLogError as error:
        return [Anchored(error.stream_id, error.seq, error.problem)]
    counts = tree.counts()
    what = "leaves" if counts[0] > size else "nodes"
    if counts[0] > size or counts[1] > nodes_count:
        head = log.head(STREAM)
        end = 0 if head is None else head.version
        return [Anchored(STREAM, end + 1, f"the tree has {what} above {size}, which nobody signed")]
    return []
