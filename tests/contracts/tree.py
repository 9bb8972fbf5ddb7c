"""What lies in the tables of the log's Merkle tree."""

import contextlib

import sqlalchemy as sa

from persistence.engine import read_engine
from persistence.records import Leaf, Node
from persistence.schema import leaves, nodes


def stored_tree(url: sa.URL) -> tuple[list[Leaf], list[Node]]:
    """Return the leaves and the nodes that a database has, in their order."""
    engine = read_engine(url)
    with contextlib.closing(engine.connect()) as connection:
        found = (
            [Leaf(*row) for row in connection.execute(sa.select(leaves).order_by("number"))],
            [
                Node(*row)
                for row in connection.execute(sa.select(nodes).order_by("level", "number"))
            ],
        )
    engine.dispose()
    return found
