"""Rows that move heads, and the check that heads are where their events end."""

import sqlalchemy as sa

from persistence.records import Append, Head
from persistence.schema import events, streams


def head_row(write: Append, head: Head) -> tuple[object, ...]:
    """Return what moves a stream's head, as Statements.move_head takes it."""
    return (
        head.version,
        head.hash,
        write.summary.listed,
        write.summary.active,
        write.summary.body,
        head.row,
        write.head.version,
        write.head.epoch,
    )


def stray_heads() -> sa.Select[tuple[str, int]]:
    """Return the query for a stream whose head is not its last event."""
    last = (
        sa.select(events.c.hash)
        .where(events.c.stream == streams.c.id, events.c.seq == streams.c.version)
        .scalar_subquery()
    )
    beyond = (
        sa.select(events.c.seq)
        .where(events.c.stream == streams.c.id, events.c.seq > streams.c.version)
        .exists()
    )
    wrong = (streams.c.version > 0) & (sa.func.coalesce(last, b"") != streams.c.hash)
    return sa.select(streams.c.stream_id, streams.c.version).where(wrong | beyond).limit(1)
