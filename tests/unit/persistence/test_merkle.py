from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.errors import ProofError
from persistence.merkle import (
    EMPTY_ROOT,
    Place,
    consistency_proof,
    grow,
    inclusion_proof,
    leaf_data,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

# The vectors of Certificate Transparency's reference implementation.
LEAVES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUDED = {
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
}
CONSISTENT = {
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}

sizes = st.integers(1, 70)


class Tree:
    """A tree grown in steps; it counts how often its nodes are read."""

    def __init__(self) -> None:
        self.size = 0
        self.root = EMPTY_ROOT
        self.nodes: dict[Place, bytes] = {}
        self.reads = 0

    def read(self, places: Sequence[Place]) -> dict[Place, bytes]:
        self.reads += 1
        return {place: self.nodes[place] for place in places}

    def add(self, leaves: Sequence[bytes]) -> "Tree":
        growth = grow(self.size, [leaf_hash(each) for each in leaves], self.read)
        self.nodes.update({(each.level, each.index): each.hash for each in growth.nodes})
        self.size, self.root = growth.size, growth.root
        return self


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


# The definitions of RFC 6962, 2.1, word for word and as slow as that.


def half_of(size: int) -> int:
    half = 1
    while half * 2 < size:
        half *= 2
    return half


def defined_root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    half = half_of(len(leaves))
    return node_hash(defined_root(leaves[:half]), defined_root(leaves[half:]))


def defined_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = half_of(len(leaves))
    if index < half:
        return [*defined_path(index, leaves[:half]), defined_root(leaves[half:])]
    return [*defined_path(index - half, leaves[half:]), defined_root(leaves[:half])]


def defined_subproof(old: int, leaves: Sequence[bytes], known: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if known else [defined_root(leaves)]
    half = half_of(len(leaves))
    if old <= half:
        return [*defined_subproof(old, leaves[:half], known), defined_root(leaves[half:])]
    return [*defined_subproof(old - half, leaves[half:], False), defined_root(leaves[:half])]


def test_roots_and_proofs_are_those_of_certificate_transparency() -> None:
    tree = Tree()
    for size, leaf in enumerate(LEAVES, start=1):
        assert tree.add([leaf]).root.hex() == ROOTS[size - 1]
    for (index, size), path in INCLUDED.items():
        assert tuple(each.hex() for each in inclusion_proof(index, size, tree.read)) == path
    for (old, size), path in CONSISTENT.items():
        assert tuple(each.hex() for each in consistency_proof(old, size, tree.read)) == path


def test_a_leaf_says_where_a_stream_ended() -> None:
    assert leaf_data("session:日本\n", 3, b"\xab" * 2) == '["session:日本\\n",3,"abab"]'.encode()


@given(st.lists(st.integers(0, 20), max_size=6))
def test_a_tree_grown_in_any_steps_is_the_one_that_the_rfc_defines(steps: list[int]) -> None:
    tree, leaves = Tree(), numbered(sum(steps))
    for step in steps:
        tree.add(leaves[tree.size : tree.size + step])
    assert tree.root == defined_root(leaves)
    assert len(tree.nodes) == sum(tree.size >> level for level in range(tree.size.bit_length()))
    for size in range(tree.size + 1):
        assert root(size, tree.read) == defined_root(leaves[:size])


@given(sizes.flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size), sizes)))
def test_inclusion_is_proved_as_defined_by_one_read(drawn: tuple[int, int, int]) -> None:
    index, size, more = drawn
    leaves = numbered(size)
    tree = Tree().add(numbered(size + more))  # later leaves change no earlier proof
    tree.reads = 0
    proof = inclusion_proof(index, size, tree.read)
    assert tree.reads <= 1
    assert list(proof) == defined_path(index, leaves)
    verify_inclusion(index, size, leaf_hash(leaves[index]), proof, defined_root(leaves))


@given(sizes.flatmap(lambda size: st.tuples(st.integers(1, size), st.just(size))))
def test_consistency_is_proved_as_defined_by_one_read(drawn: tuple[int, int]) -> None:
    old, size = drawn
    leaves = numbered(size)
    tree = Tree().add(leaves)
    tree.reads = 0
    proof = consistency_proof(old, size, tree.read)
    assert tree.reads <= 1
    assert list(proof) == defined_subproof(old, leaves, True)
    verify_consistency(old, size, proof, defined_root(leaves[:old]), tree.root)


@given(
    sizes.flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))),
    st.integers(0, 10**6),
)
def test_no_other_proof_of_inclusion_holds(drawn: tuple[int, int], number: int) -> None:
    index, size = drawn
    tree = Tree().add(numbered(size))
    leaf = leaf_hash(str(index).encode())
    proof = list(inclusion_proof(index, size, tree.read))
    wrong = [
        (index, size, leaf_hash(b"other"), proof, tree.root),
        (index, size, leaf, proof, sha256(tree.root).digest()),
        (index, size, leaf, [*proof, leaf], tree.root),
        (size, size, leaf, proof, tree.root),
        (-1, size, leaf, proof, tree.root),
    ]
    if proof:
        cut = number % len(proof)
        flipped = [*proof[:cut], sha256(proof[cut]).digest(), *proof[cut + 1 :]]
        wrong.append((index, size, leaf, flipped, tree.root))
        wrong.append((index, size, leaf, proof[:cut] + proof[cut + 1 :], tree.root))
        wrong.append(((index + 1) % size, size, leaf, proof, tree.root))
    for each in wrong:
        with pytest.raises(ProofError):
            verify_inclusion(*each)


@given(
    sizes.flatmap(lambda size: st.tuples(st.integers(0, size), st.just(size))),
    st.integers(0, 10**6),
)
def test_no_other_proof_of_consistency_holds(drawn: tuple[int, int], number: int) -> None:
    old, size = drawn
    tree = Tree().add(numbered(size))
    old_root = root(old, tree.read)
    proof = list(consistency_proof(old, size, tree.read))
    other = sha256(old_root).digest()
    wrong = [
        (old, size, proof, other, tree.root),
        (old, size, [*proof, other], old_root, tree.root),
        (size + 1, size, proof, old_root, tree.root),
    ]
    if old:
        wrong.append((old, size, proof, old_root, sha256(tree.root).digest()))
    if proof:
        cut = number % len(proof)
        flipped = [*proof[:cut], sha256(proof[cut]).digest(), *proof[cut + 1 :]]
        wrong.append((old, size, flipped, old_root, tree.root))
        wrong.append((old, size, proof[:cut] + proof[cut + 1 :], old_root, tree.root))
    for each in wrong:
        with pytest.raises(ProofError):
            verify_consistency(*each)


def test_what_a_tree_can_not_prove_is_refused() -> None:
    tree = Tree().add(numbered(3))
    with pytest.raises(ProofError, match="no leaf 3"):
        inclusion_proof(3, 3, tree.read)
    with pytest.raises(ProofError, match="none of 4"):
        consistency_proof(4, 3, tree.read)
    with pytest.raises(ProofError, match="no node"):
        inclusion_proof(0, 9, tree.read)
