"""What has become of a log since a checkpoint that somebody kept outside of it."""

from collections.abc import Collection, Iterator, Sequence

from msgspec import Struct

from actors.audit.signing.checkpoints import decode
from actors.audit.signing.events import STREAM, CheckpointSigned
from actors.audit.signing.notes import (
    Checkpoint,
    VerifierKey,
    parse_checkpoint,
    parse_note,
    verify_checkpoint,
)
from persistence import chain
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.merkle import Edge, leaf_data, leaf_hash
from persistence.records import GENESIS_HASH, Leaf, Node
from persistence.tree import Found, Tree

NAMED_MAX = 10
"""How many streams are named where it can't be told which of them was changed."""


class Finding(Struct, frozen=True):
    """Where a log is not what it was: a stream, the first seq that tells, and what is wrong."""

    stream: str
    seq: int
    problem: str


class Step(Struct, frozen=True):
    """What a checkpoint says that the tree grew by, and what the log has there.

    ``hashes`` are those of the leaves by the events in the log, None where they are gone.
    """

    seq: int
    event: CheckpointSigned
    found: list[Found]
    hashes: list[bytes | None]

    @property
    def first(self) -> int:
        """Return the index of the first leaf that was added."""
        return self.event.size - len(self.event.leaves)


def compare(
    log: EventLog, tree: Tree, note_text: str, verifier_keys: Collection[VerifierKey]
) -> list[Finding]:
    """Compare a log with a checkpoint of any age; return what is wrong, nothing where all is well.

    Reads every checkpoint up to that one, and of each stream the events that they name. Raises
    ProofError where no key of the log signed the note: then it says nothing about the log.
    """
    checkpoint = verify_checkpoint(note_text, verifier_keys)
    comparison = _Comparison(tree, checkpoint)
    try:
        for step in steps(log, tree):
            if comparison.take(step):
                return comparison.findings
    except CorruptLogError as error:
        return [*comparison.findings, _finding(error)]
    return [*comparison.findings, comparison.too_short(log)]


class _Comparison:
    """Goes through a log's checkpoints up to the given one."""

    def __init__(self, tree: Tree, checkpoint: Checkpoint) -> None:
        self.findings: list[Finding] = []
        self._tree = tree
        self._checkpoint = checkpoint
        self._edge = Edge()
        self._bad: set[str] = set()
        self._suspected = False

    def take(self, step: Step) -> bool:
        """Take in the next checkpoint; tell whether the given one is behind us."""
        event, wanted = step.event, self._checkpoint
        if event.size > wanted.size:
            self._add(STREAM, step.seq, f"no checkpoint was signed at size {wanted.size}")
            return True
        self._take_leaves(step)
        if event.size < wanted.size:
            return False
        signed = parse_checkpoint(parse_note(event.note).text)
        if signed.origin != wanted.origin:
            problem = f"at size {wanted.size} the log was {signed.origin}, not {wanted.origin}"
            self._add(STREAM, step.seq, problem)
        if signed.root != wanted.root:
            problem = f"another root was signed at size {wanted.size}: the log has been forked"
            self._add(STREAM, step.seq, f"{problem} or rewritten")
        elif not self.findings and self._edge.root != wanted.root:
            self._add(STREAM, step.seq, "the streams do not lead to the root that was signed")
        return True

    def too_short(self, log: EventLog) -> Finding:
        """Return that the log ends before the given checkpoint."""
        head = log.head(STREAM)
        seq = 1 if head is None else head.version + 1
        problem = f"cut off: the tree has {self._edge.size} leaves, not {self._checkpoint.size}"
        return Finding(STREAM, seq, problem)

    def _take_leaves(self, step: Step) -> None:
        actual = self._edge.copy()
        for leaf in step.hashes:
            actual.add(leaf or b"")
        if actual.root.hex() == step.event.root:
            self._edge = actual
            return
        stored = self._tree.nodes([(0, index) for index in range(step.first, step.event.size)])
        blamed = False
        ends = zip(step.event.leaves, step.found, step.hashes, strict=True)
        for index, ((name, version), found, leaf) in enumerate(ends, start=step.first):
            expected = stored.get((0, index))
            if leaf is None or (expected is not None and leaf != expected):
                self._blame(name, version, found)
                blamed = True
            self._edge.add(expected or leaf or b"")
        if not blamed and not self._suspected:
            self._suspected = True  # from here on no root can be right
            self._suspect(step)

    def _blame(self, name: str, version: int, found: Found) -> None:
        if name in self._bad:
            return
        self._bad.add(name)
        if found.head is None:
            self._add(name, 1, f"dropped: a checkpoint has the stream at seq {version}")
        elif found.head.version < version:
            end = found.head.version
            problem = f"cut off: a checkpoint has seq {version}, the stream ends at {end}"
            self._add(name, end + 1, problem)
        elif found.hash is None:
            self._add(name, version, "the event is missing, which a checkpoint has")
        else:
            self._add(name, version, "rewritten: a checkpoint has another event there, or before")

    def _suspect(self, step: Step) -> None:
        """Say among which streams one was changed, where the stored nodes don't tell."""
        names = [name for name, _version in step.event.leaves]
        told = ", ".join(names[:NAMED_MAX]) + (", …" if len(names) > NAMED_MAX else "")
        if len(names) == 1:
            self._bad.add(names[0])
            self._add(names[0], step.event.leaves[0][1], "rewritten since it was signed")
        else:
            self._add(STREAM, step.seq, f"one of these was rewritten since: {told}")

    def _add(self, stream: str, seq: int, problem: str) -> None:
        self.findings.append(Finding(stream, seq, problem))


def steps(log: EventLog, tree: Tree) -> Iterator[Step]:
    """Yield by what the tree grew, checkpoint by checkpoint, the oldest first.

    The stream's own chain is verified on the way. Raises CorruptLogError.
    """
    head = log.head(STREAM)
    seq, previous, size = 0, GENESIS_HASH, 0
    for stored in () if head is None else log.read(head):
        seq, previous = chain.verify(STREAM, [stored], after=seq, previous=previous)
        event = decode(stored)
        if not isinstance(event, CheckpointSigned):
            continue
        if event.size != size + len(event.leaves):
            raise CorruptLogError(STREAM, seq, f"the tree's size does not follow from {size}")
        size = event.size
        found = tree.found(event.leaves)
        hashes = [
            None if each.hash is None else leaf_hash(leaf_data(name, version, each.hash))
            for (name, version), each in zip(event.leaves, found, strict=True)
        ]
        yield Step(seq, event, found, hashes)
    if head is not None and (seq, previous) != (head.version, head.hash):
        raise CorruptLogError(STREAM, seq + 1, "the stream is cut off")


def rebuilt(log: EventLog, tree: Tree) -> Iterator[tuple[list[Leaf], list[Node]]]:
    """Yield what the tables of the tree have to hold, by the log alone.

    Raises CorruptLogError where the log has lost what a checkpoint names, or has another root.
    """
    edge = Edge()
    for step in steps(log, tree):
        leaves: list[Leaf] = []
        nodes: list[Node] = []
        ends = zip(step.event.leaves, step.found, step.hashes, strict=True)
        for (name, version), found, leaf in ends:
            if found.head is None or leaf is None:
                raise CorruptLogError(name, version, "the event is missing, which was signed")
            leaves.append(Leaf(edge.size, found.head.row, version))
            nodes.extend(edge.add(leaf))
        if edge.root.hex() != step.event.root:
            raise CorruptLogError(STREAM, step.seq, "the events do not lead to the signed root")
        yield leaves, nodes


def check_tables(log: EventLog, tree: Tree) -> list[Finding]:
    """Return where the stored leaves and nodes are not what the log says, the first place only."""
    leaves_count = nodes_count = 0
    try:
        for leaves, nodes in rebuilt(log, tree):
            if tree.leaves(leaves_count, len(leaves)) != leaves:
                return [Finding(STREAM, 0, f"the leaves from {leaves_count} on are others")]
            found = tree.nodes([(each.level, each.index) for each in nodes])
            wrong = [each for each in nodes if found.get((each.level, each.index)) != each.hash]
            if wrong:
                place = f"level {wrong[0].level}, {wrong[0].index}"
                return [Finding(STREAM, 0, f"the tree's node at {place} is another")]
            leaves_count, nodes_count = leaves_count + len(leaves), nodes_count + len(nodes)
    except CorruptLogError as error:
        return [_finding(error)]
    if tree.counts() != (leaves_count, nodes_count):
        return [Finding(STREAM, 0, "the tree has leaves or nodes that no checkpoint names")]
    return []


def missing(log: EventLog, tree: Tree) -> tuple[Sequence[Leaf], Sequence[Node]]:
    """Return what is missing in the tables of the tree, to be appended without an event."""
    leaves: list[Leaf] = []
    nodes: list[Node] = []
    for some_leaves, some_nodes in rebuilt(log, tree):
        first = some_leaves[0].index
        stored = {each.index for each in tree.leaves(first, len(some_leaves))}
        leaves.extend([each for each in some_leaves if each.index not in stored])
        found = tree.nodes([(each.level, each.index) for each in some_nodes])
        nodes.extend([each for each in some_nodes if (each.level, each.index) not in found])
    return leaves, nodes


def _finding(error: CorruptLogError) -> Finding:
    return Finding(error.stream_id, error.seq, str(error))
