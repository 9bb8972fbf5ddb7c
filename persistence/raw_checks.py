"""What can be told of all events together, which no stream tells by itself.

A position, and on PostgreSQL a transaction, is an event's address in this database: no hash covers
it. On SQLite positions have no gaps. PostgreSQL keeps with each row which transaction wrote it
last, and an event is written once. What an erasure has written again is not judged by that, nor
what was copied here from another database, which is older than all that was written here.
"""

from msgspec import Struct

from persistence.raw_rows import RawRows

NAMED_MAX = 20
"""How many events are named for one reason: there may be millions."""

WHOLE_LOG = "log"
"""Stands for a stream's name where nothing can be said of one."""

_ORPHANS = (
    "SELECT stream, min(seq) FROM events GROUP BY stream"  # noqa: S608 - made of constants
    f" HAVING stream NOT IN (SELECT id FROM streams) ORDER BY stream LIMIT {NAMED_MAX}"
)
_PLACES = "SELECT count(*), coalesce(min(position), 1), coalesce(max(position), 0) FROM events"
_FIRST_GAP = (
    "SELECT min(place) FROM (SELECT 1 AS place UNION ALL SELECT position + 1 FROM events"
    " WHERE position >= 1) AS places WHERE place NOT IN (SELECT position FROM events)"
)
_OF = "SELECT stream, seq, {} FROM events"
_OUTLIERS = (
    f"{_OF.format('position')} WHERE position < 1 OR position > ?"
    f" ORDER BY position LIMIT {NAMED_MAX}"
)
_APART = (
    f"{_OF.format('position')} WHERE (position < 1 OR position > ?)"  # noqa: S608 - made of constants
    " AND position - 1 NOT IN (SELECT position FROM events)"
    f" ORDER BY position LIMIT {NAMED_MAX}"
)
_NOT_YET_GIVEN = (
    f"{_OF.format('position')} WHERE position < 1 OR position >"
    " coalesce(pg_sequence_last_value(pg_get_serial_sequence('events', 'position')::regclass), 0)"
    f" ORDER BY position LIMIT {NAMED_MAX}"
)
_NOT_YET_BEGUN = (
    f"{_OF.format('xid::text')} WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())"
    f" AND xid IS DISTINCT FROM pg_current_xact_id_if_assigned() ORDER BY xid LIMIT {NAMED_MAX}"
)
_FIRST_WRITTEN_HERE = (
    "SELECT xid FROM events WHERE events.xmin = xid::xid AND payload IS NOT NULL"
    " ORDER BY xid LIMIT 1"
)
_WRITTEN_AGAIN = (
    f"WITH written AS ({_FIRST_WRITTEN_HERE})"
    f" {_OF.format('position')} CROSS JOIN written WHERE payload IS NOT NULL"
    " AND events.xmin <> events.xid::xid AND age(events.xmin) < age(written.xid::xid)"
    f" ORDER BY position LIMIT {NAMED_MAX}"
)


class Stray(Struct, frozen=True):
    """An event that is not where it was written; ``stream`` names its stream, or its row."""

    stream: str
    seq: int
    problem: str


def strays(raw: RawRows) -> list[Stray]:
    """Return what is wrong with the events of a database as a whole; reads an index or two."""
    found = [
        Stray(_name(raw, row), seq, "the event belongs to no stream")
        for row, seq in raw.all(_ORPHANS)
    ]
    return found + (_moved_on_sqlite(raw) if raw.is_sqlite else _moved_on_postgresql(raw))


def _moved_on_sqlite(raw: RawRows) -> list[Stray]:
    ((count, first, last),) = raw.all(_PLACES)
    if (first, last) == (1, count):
        return []
    ((gap,),) = raw.all(_FIRST_GAP)
    problem = f"nothing is at place {gap} of the log: an event was deleted"
    moved = raw.all(_OUTLIERS, count)
    if len(moved) > 1:  # those that follow what was deleted are where they belong
        moved = raw.all(_APART, count)
    if not moved:
        return [Stray(WHOLE_LOG, 0, problem)]
    return [_stray(raw, f"{problem}, or this one moved", *each) for each in moved]


def _moved_on_postgresql(raw: RawRows) -> list[Stray]:
    checks = (
        (_NOT_YET_GIVEN, "the log has given out no such place yet"),
        (_NOT_YET_BEGUN, "there has been no such transaction yet"),
        (_WRITTEN_AGAIN, "the row was written again after the event was"),
    )
    return [
        _stray(raw, problem, *each) for statement, problem in checks for each in raw.all(statement)
    ]


def _stray(raw: RawRows, problem: str, row: int, seq: int, place: object) -> Stray:
    return Stray(_name(raw, row), seq, f"{problem} (at {place})")


def _name(raw: RawRows, row: int) -> str:
    stream = raw.stream_of_row(row)
    return (stream and stream.stream_id) or f"row {row}"
