"""What every tree keeps to beside its log; a store binds it by a fixture ``opened``."""

from collections.abc import Sequence

import pytest

from persistence.errors import ConflictError
from persistence.event_log import EventLog
from persistence.merkle import grow, leaf_data, leaf_hash, root
from persistence.records import Append, Head, Leaf, Node
from persistence.tree import Found, Tree
from tests.contracts.event_log_contract import LISTED, append, claim, event, require_head

Opened = tuple[EventLog, Tree]


def sign(opened: Opened, heads: Sequence[Head]) -> tuple[Leaf, ...]:
    """Grow the tree by the heads, in the transaction of an event of the stream ``signed``."""
    log, tree = opened
    size, _nodes = tree.counts()
    hashes = [leaf_hash(leaf_data(each.stream_id, each.version, each.hash)) for each in heads]
    growth = grow(size, hashes, tree.nodes)
    leaves = tuple(Leaf(size + at, each.row, each.version) for at, each in enumerate(heads))
    write = Append(claim(log, "signed", "*"), (event(),), LISTED, leaves=leaves, nodes=growth.nodes)
    require_head(log.write([write])[0])
    assert root(growth.size, tree.nodes) == growth.root
    return leaves


class TreeContract:
    """Every test gets a log and its tree."""

    @pytest.fixture
    def log(self, opened: Opened) -> EventLog:
        return opened[0]

    @pytest.fixture
    def tree(self, opened: Opened) -> Tree:
        return opened[1]

    def test_an_empty_tree_has_nothing(self, tree: Tree) -> None:
        assert tree.counts() == (0, 0)
        assert tree.nodes([(0, 0), (1, 0)]) == {}
        assert tree.leaves(0, 10) == []
        assert tree.moved(limit=10) == []
        assert tree.newest_leaf(1, 10) is None

    def test_streams_that_have_gone_on_are_found_by_their_rows(
        self, log: EventLog, tree: Tree, opened: Opened
    ) -> None:
        heads = [append(log, claim(log, name)) for name in ("b", "a", "ü")]
        claim(log, "empty")
        assert tree.moved(limit=10) == heads
        assert tree.moved(limit=2) == heads[:2]
        assert tree.moved(after_row=heads[1].row, limit=10) == heads[2:]
        sign(opened, heads)
        assert [each.stream_id for each in tree.moved(limit=10)] == ["signed"]
        moved = append(log, heads[1])
        assert moved in tree.moved(limit=10)
        assert heads[0] not in tree.moved(limit=10)

    def test_leaves_and_nodes_are_read_back_as_they_were_written(
        self, log: EventLog, tree: Tree, opened: Opened
    ) -> None:
        head = append(log, claim(log, "a"))
        leaves = list(sign(opened, [head]))
        for _ in range(4):
            head = append(log, head)
            leaves.extend(sign(opened, [head]))
        assert tree.counts() == (5, 8)
        assert tree.leaves(0, 10) == leaves
        assert tree.leaves(2, 2) == leaves[2:4]
        assert set(tree.nodes([(level, 0) for level in range(5)])) == {(0, 0), (1, 0), (2, 0)}
        assert tree.newest_leaf(head.row, 5) == leaves[4]
        assert tree.newest_leaf(head.row, 4) == leaves[3]
        assert tree.newest_leaf(head.row, 0) is None

    def test_many_nodes_are_read_at_once(self, log: EventLog, tree: Tree, opened: Opened) -> None:
        head = append(log, claim(log, "a"))
        sign(opened, [head] * 900)
        assert len(tree.nodes([(0, index) for index in range(1_000)])) == 900

    def test_what_the_log_has_is_told_for_each_place(self, log: EventLog, tree: Tree) -> None:
        head = append(log, claim(log, "a"), event(), event())
        first, second = log.read(head)
        found = tree.found([("a", 2), ("gone", 1), ("a", 3), ("a", 1), ("a", 2)])
        assert found == [
            Found(head, second.hash),
            Found(None, None),
            Found(head, None),
            Found(head, first.hash),
            Found(head, second.hash),
        ]
        assert tree.found([]) == []

    def test_a_checkpoint_that_conflicts_leaves_no_leaf(self, log: EventLog, tree: Tree) -> None:
        head = append(log, claim(log, "a"))
        stale = claim(log, "signed")
        append(log, stale)
        leaf, node = Leaf(0, head.row, 1), Node(0, 0, bytes(32))
        write = Append(stale, (event(),), LISTED, leaves=(leaf,), nodes=(node,))
        assert isinstance(log.write([write])[0], ConflictError)
        assert tree.counts() == (0, 0)
