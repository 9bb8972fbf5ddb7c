"""The log's Merkle tree as it is stored, and where the streams that it is about end.

Its leaves and nodes are a projection of the stream ``checkpoints``: written in the transaction of
the event that says by which streams the tree has grown.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from msgspec import Struct

from persistence.engine import translated_errors
from persistence.merkle import Place
from persistence.native import give_way
from persistence.records import Head, Leaf
from persistence.schema import leaves, nodes, streams

T = TypeVar("T")

PLACES_MAX = 400
"""How many rows a statement asks for by their keys."""

WINDOW_STREAMS = 10_000
"""How many streams a statement compares: a process must not stand still for longer."""


class Found(Struct, frozen=True):
    """What the log has where a leaf says that a stream ended.

    ``head`` is the stream's, None where there is no such stream; ``hash`` the event's at the
    leaf's version, None where there is no such event.
    """

    head: Head | None
    hash: bytes | None


class Tree(Protocol):
    """What is read of the tree. Every method may block, and raises StoreUnavailableError."""

    def counts(self) -> tuple[int, int]:
        """Return how many leaves and how many nodes are stored."""

    def nodes(self, places: Sequence[Place]) -> dict[Place, bytes]:
        """Return the hashes of those of the nodes that there are."""

    def leaves(self, first: int, limit: int) -> list[Leaf]:
        """Return the leaves from an index on, by index."""

    def newest_leaf(self, row: int, below: int) -> Leaf | None:
        """Return a stream's newest leaf among the first ``below`` ones."""

    def moved(self, *, after_row: int = 0, limit: int) -> list[Head]:
        """Return the streams that have gone on since their newest leaf, by their rows."""

    def found(self, ends: Sequence[tuple[str, int]]) -> list[Found]:
        """Return what the log has at these places, each a stream's name and a version."""


class SqlTree:
    """The tree in an SQL database, by an engine for reads. Implements Tree."""

    def __init__(self, reader: sa.Engine) -> None:
        self._reader = reader

    def counts(self) -> tuple[int, int]:
        """See Tree.counts."""
        counted = [sa.select(sa.func.count()).select_from(table) for table in (leaves, nodes)]
        query = sa.select(*[each.scalar_subquery() for each in counted])
        with translated_errors(), self._reader.connect() as connection:
            leaves_count, nodes_count = connection.execute(query).one()
        return leaves_count, nodes_count

    def nodes(self, places: Sequence[Place]) -> dict[Place, bytes]:
        """See Tree.nodes; one statement for what a proof needs."""
        found: dict[Place, bytes] = {}
        with translated_errors(), self._reader.connect() as connection:
            for some in _some(places):
                rows = connection.exec_driver_sql(*self._at("nodes", "level", "number", some))
                found.update({(level, number): bytes(node) for level, number, node in rows})
        return found

    def leaves(self, first: int, limit: int) -> list[Leaf]:
        """See Tree.leaves."""
        query = (
            sa.select(leaves.c.number, leaves.c.stream, leaves.c.version)
            .where(leaves.c.number >= first)
            .order_by(leaves.c.number)
            .limit(limit)
        )
        with translated_errors(), self._reader.connect() as connection:
            return [Leaf(*row) for row in connection.execute(query)]

    def newest_leaf(self, row: int, below: int) -> Leaf | None:
        """See Tree.newest_leaf."""
        query = (
            sa.select(leaves.c.number, leaves.c.stream, leaves.c.version)
            .where(leaves.c.stream == row, leaves.c.number < below)
            .order_by(leaves.c.number.desc())
            .limit(1)
        )
        with translated_errors(), self._reader.connect() as connection:
            found = connection.execute(query).one_or_none()
        return None if found is None else Leaf(*found)

    def moved(self, *, after_row: int = 0, limit: int) -> list[Head]:
        """See Tree.moved; what a statement finds is of one moment."""
        found: list[Head] = []
        with translated_errors(), self._reader.connect() as connection:
            while len(found) < limit:
                last_row = connection.execute(_end_of_window(after_row)).scalar_one_or_none()
                query = _moved(after_row, last_row, limit - len(found))
                found.extend([Head(*row) for row in connection.execute(query)])
                if last_row is None:
                    break
                after_row = last_row
                give_way()
        return found

    def found(self, ends: Sequence[tuple[str, int]]) -> list[Found]:
        """See Tree.found; two statements for every few hundred places."""
        found: list[Found] = []
        with translated_errors(), self._reader.connect() as connection:
            for some in _some(ends):
                rows = connection.execute(
                    _HEADS.where(streams.c.stream_id.in_([name for name, _version in some]))
                )
                heads = {row.stream_id: Head(*row) for row in rows}
                places = [(heads[name].row, version) for name, version in some if name in heads]
                hashes: dict[Place, bytes] = {}
                if places:
                    at = connection.exec_driver_sql(*self._at("events", "stream", "seq", places))
                    hashes = {(stream, seq): bytes(link) for stream, seq, link in at}
                found.extend([_found(heads.get(name), version, hashes) for name, version in some])
        return found

    def _at(
        self, table: str, first: str, second: str, places: Sequence[Place]
    ) -> tuple[str, tuple[int, ...]]:
        """Return what reads hashes by two columns: joined, because SQLite scans for an IN."""
        pair = "(?, ?)" if self._reader.dialect.name == "sqlite" else "(%s::bigint, %s::bigint)"
        statement = (
            f"WITH wanted(a, b) AS (VALUES {', '.join([pair] * len(places))})"  # noqa: S608 - made of constants
            f" SELECT {first}, {second}, hash FROM wanted"
            f" JOIN {table} ON {first} = wanted.a AND {second} = wanted.b"
        )
        return statement, tuple(number for place in places for number in place)


_HEADS = sa.select(
    streams.c.id, streams.c.stream_id, streams.c.version, streams.c.hash, streams.c.epoch
)


def _found(head: Head | None, version: int, hashes: Mapping[Place, bytes]) -> Found:
    return Found(head, None if head is None else hashes.get((head.row, version)))


def _some(places: Sequence[T]) -> Iterator[list[T]]:
    for first in range(0, len(places), PLACES_MAX):
        yield list(places[first : first + PLACES_MAX])


def _end_of_window(after_row: int) -> sa.Select[Any]:
    return (
        sa.select(streams.c.id)
        .where(streams.c.id > after_row)
        .order_by(streams.c.id)
        .offset(WINDOW_STREAMS - 1)
        .limit(1)
    )


def _moved(after_row: int, last_row: int | None, limit: int) -> sa.Select[Any]:
    newest = (
        sa.select(leaves.c.version)
        .where(leaves.c.stream == streams.c.id)
        .order_by(leaves.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = _HEADS.where(streams.c.id > after_row)
    if last_row is not None:
        query = query.where(streams.c.id <= last_row)
    return (
        query.where(streams.c.version > sa.func.coalesce(newest, 0))
        .order_by(streams.c.id)
        .limit(limit)
    )
