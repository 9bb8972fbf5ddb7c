"""The Merkle tree of RFC 6962 over where the streams end: proofs and their verification. Pure.

A leaf's data is ``[stream id, version, hash of the event at that version, in hexadecimal]`` as
RFC 8785 writes it. A leaf's hash is ``SHA-256(0x00 ‖ data)``, an inner node's ``SHA-256(0x01 ‖
left ‖ right)``. Nodes are read by their places, all that something needs at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from persistence.errors import ProofError
from persistence.records import Node

EMPTY_ROOT = sha256().digest()
"""The root of a tree without leaves."""

Place = tuple[int, int]
"""A complete subtree: its level, 0 for a leaf, and its index on that level from the left."""

ReadNodes = Callable[[Sequence[Place]], Mapping[Place, bytes]]
"""Returns the hashes at the places; raises KeyError, or leaves out what there is not."""

_Range = tuple[int, int]
"""The first leaf of a subtree, and how many leaves it has."""

_encode = msgspec.json.Encoder().encode


class Growth(Struct, frozen=True):
    """What a tree becomes by more leaves: the nodes that are complete now, and its root.

    ``old_root`` is the root that it had, by the nodes that were read.
    """

    size: int
    root: bytes
    nodes: tuple[Node, ...]
    old_root: bytes


def leaf_data(stream_id: str, version: int, event_hash: bytes) -> bytes:
    """Return what a leaf says: the stream ended at this version, with this hash."""
    return _encode((stream_id, version, event_hash.hex()))


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Edge:
    """The complete subtrees that a tree consists of, from the left: all it takes to grow it."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        self.size = size
        self._hashes = list(hashes)

    @property
    def root(self) -> bytes:
        """Return the tree's root."""
        return _joined(self._hashes)

    def copy(self) -> "Edge":
        """Return another edge of the same tree."""
        return Edge(self.size, self._hashes)

    def add(self, leaf: bytes) -> list[Node]:
        """Add a leaf of this hash; return the nodes that are complete by it."""
        level, index, found = 0, self.size, leaf
        nodes = [Node(level, index, found)]
        while index % 2:  # its left sibling is complete, so their parent is
            level, index, found = level + 1, index // 2, node_hash(self._hashes.pop(), found)
            nodes.append(Node(level, index, found))
        self._hashes.append(found)
        self.size += 1
        return nodes


def grow(size: int, leaf_hashes: Iterable[bytes], read: ReadNodes) -> Growth:
    """Return what the tree of ``size`` leaves becomes by further ones."""
    edge = Edge(size, [found for _place, found in _read(_places((0, size)), read)])
    old_root = edge.root
    nodes = [node for leaf in leaf_hashes for node in edge.add(leaf)]
    return Growth(edge.size, edge.root, tuple(nodes), old_root)


def root(size: int, read: ReadNodes) -> bytes:
    """Return the root of the first ``size`` leaves."""
    return _joined([found for _place, found in _read(_places((0, size)), read)])


def inclusion_proof(index: int, size: int, read: ReadNodes) -> tuple[bytes, ...]:
    """Return the audit path of a leaf in the tree of ``size`` leaves (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ProofError(f"A tree of {size} leaves has no leaf {index}.")
    first, left = 0, size
    siblings: list[_Range] = []
    while left > 1:
        half = _split(left)
        if index - first < half:
            siblings.append((first + half, left - half))
            left = half
        else:
            siblings.append((first, half))
            first, left = first + half, left - half
    return _hashes(siblings[::-1], read)


def consistency_proof(old: int, size: int, read: ReadNodes) -> tuple[bytes, ...]:
    """Return the proof that the first ``old`` leaves are still the same (RFC 6962, 2.1.2)."""
    if not 0 <= old <= size:
        raise ProofError(f"A tree of {size} leaves follows from none of {old}.")
    if old == 0:
        return ()
    first, left, known = 0, size, True
    parts: list[_Range] = []
    while old != left:
        half = _split(left)
        if old <= half:
            parts.append((first + half, left - half))
            left = half
        else:
            parts.append((first, half))
            first, left, old, known = first + half, left - half, old - half, False
    if not known:
        parts.append((first, left))
    return _hashes(parts[::-1], read)


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that a leaf of this hash is in the tree of this root. Raises ProofError.

    The algorithm is RFC 9162's, 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofError(f"A tree of {size} leaves has no leaf {index}.")
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("The inclusion proof is too long.")
        if place % 2 or place == last:
            found = node_hash(sibling, found)
            while place and place % 2 == 0:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    if last != 0 or found != root:
        raise ProofError(f"Leaf {index} is not in the tree of {size} leaves with this root.")


def verify_consistency(
    old: int, size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that a tree begins with all leaves of an older one. Raises ProofError.

    The algorithm is RFC 9162's, 2.1.4.2.
    """
    if not 0 <= old <= size:
        raise ProofError(f"A tree of {size} leaves follows from none of {old}.")
    if old in (0, size):
        known = new_root if old else EMPTY_ROOT
        if proof or old_root != known:
            raise ProofError(f"Two trees of {old} leaves have different roots.")
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    _follow(old - 1, size - 1, path, old_root, new_root)


def _follow(place: int, last: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Join a consistency proof's hashes to both roots."""
    wrong = ProofError("The tree does not begin with all leaves of the older one.")
    if not path:
        raise wrong
    while place % 2:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise wrong
        if place % 2 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while place and place % 2 == 0:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    if last != 0 or old != old_root or new != new_root:
        raise wrong


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _places(part: _Range) -> list[Place]:
    """Return the complete subtrees that a subtree consists of, from the left."""
    first, left = part
    places: list[Place] = []
    while left:
        level = left.bit_length() - 1
        places.append((level, first >> level))
        first, left = first + (1 << level), left - (1 << level)
    return places


def _read(places: Sequence[Place], read: ReadNodes) -> list[tuple[Place, bytes]]:
    try:
        found = read(places) if places else {}
        return [(place, found[place]) for place in places]
    except KeyError as error:
        raise ProofError(f"The tree has no node {error}.") from error


def _hashes(parts: Sequence[_Range], read: ReadNodes) -> tuple[bytes, ...]:
    """Return the hash of each subtree; all nodes are read at once."""
    places = [_places(part) for part in parts]
    found = dict(_read([place for each in places for place in each], read))
    return tuple([_joined([found[place] for place in each]) for each in places])


def _joined(hashes: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees that become smaller to the right."""
    if not hashes:
        return EMPTY_ROOT
    found = hashes[-1]
    for left in reversed(hashes[:-1]):
        found = node_hash(left, found)
    return found
