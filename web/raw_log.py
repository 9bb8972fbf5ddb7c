"""The log as it is stored, read on and on: one stream's events, or those of all streams."""

import time
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Protocol

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import Encoder
from msgspec.structs import astuple

from actors.audit.exporting.lines import EventLine, line_of
from actors.audit.verifying.stream_kinds import WIRE_NAMES
from actors.audit.watch import Watcher
from persistence.event_log import EventLog
from persistence.native import give_way
from persistence.records import Cursor, Head, StoredEvent
from web.errors import Problem
from web.inputs import Count
from web.operations import Refusable
from web.sse import pieces

NDJSON = "application/x-ndjson"
BLANK = b"\n"
END = "end"
"""In place of a cursor: from now on."""

PAGE_EVENTS_MAX = 1_000
PAGE_BYTES_MAX = 4 * 1024 * 1024
SCANNED_EVENTS_MAX = 20_000
"""How many events a page's request looks at; the next request looks at the next ones."""

CHUNK_EVENTS_MIN = 16
CHUNK_EVENTS_MAX = 500
CHUNK_BYTES = 256 * 1024
"""What waits in memory for a reader that does not take it; a single event may be larger."""

UNSEEN_S = 0.05
POLL_S = 0.5
"""Where other processes write: how soon to look again when what was told of can't be read yet,
and when nothing was told of."""

INTEGER_MAX = 2**63 - 1

Seq = Annotated[int, Meta(ge=0, le=10**18 - 1)]

_encode = Encoder().encode


class EventsWanted(Refusable, frozen=True):
    """Which events: of these types, of one run by its prompt's id, by who asked for them.

    ``follow`` goes on with new ones until the client leaves.
    """

    types: Annotated[str, Meta(description="Types, separated by commas.")] | None = None
    run: Annotated[str, Meta(description="A prompt's id.")] | None = None
    principal: str | None = None
    limit: Count | None = None
    follow: bool = False


class StreamQuery(EventsWanted, frozen=True):
    """A part of one stream: what comes after and before these seqs."""

    after: Seq | None = None
    before: Count | None = None

    def __post_init__(self) -> None:
        """Refuse to wait for what can't come."""
        if self.follow and self.before is not None:
            raise Problem(400, "before ends the log and follow goes on: leave one of them out.")


class LogQuery(EventsWanted, frozen=True):
    """A part of all streams, or of those whose names are, or begin with, what is given."""

    after: (
        Annotated[
            str,
            Meta(
                pattern=r"^([0-9]{1,19}-[0-9]{1,19}|end)$",
                description="A line's cursor, or end: only what is new.",
            ),
        ]
        | None
    ) = None
    stream: str | None = None
    prefix: str | None = None


class TailedLine(EventLine, frozen=True, omit_defaults=True, rename="camel", kw_only=True):
    """An event of any stream; ``cursor`` is its place among all of them."""

    cursor: str


class StreamPage(Struct, frozen=True, omit_defaults=True):
    """A part of a stream; where there is more, ``next`` is the ``after`` to go on with."""

    events: list[EventLine]
    next: int | UnsetType = UNSET


class LogPage(Struct, frozen=True):
    """A part of all streams; ``next`` is the ``after`` to go on with, now or later.

    ``more``: there are more events already.
    """

    events: list[TailedLine]
    next: str
    more: bool


class Filter(Struct, frozen=True):
    """Which events are wanted; ``within`` is what their streams' names begin with."""

    types: frozenset[str] = frozenset()
    run: str | None = None
    principal: str | None = None
    stream: str | None = None
    within: tuple[str, ...] = ()

    def passes(self, stream_id: str, event: StoredEvent) -> bool:
        """Tell whether an event is."""
        return (
            (not self.types or event.type in self.types)
            and (self.run is None or event.correlation_id == self.run)
            and (self.principal is None or event.principal == self.principal)
            and (self.stream is None or stream_id == self.stream)
            and all(stream_id.startswith(each) for each in self.within)
        )


def filter_of(query: EventsWanted, *, stream: str | None = None, within: str = "") -> Filter:
    """Return what a query asks for. Raises Problem for a type that no event has."""
    types = frozenset(query.types.split(",") if query.types else ()) - {""}
    if unknown := types - WIRE_NAMES:
        raise Problem(400, _no_such_type(min(unknown)))
    prefix = query.prefix if isinstance(query, LogQuery) else None
    wanted = tuple([each for each in (within, prefix) if each])
    return Filter(types, query.run, query.principal, stream, wanted)


def _no_such_type(name: str) -> str:
    near = get_close_matches(name, WIRE_NAMES, n=1)
    return f"types: no event is called {name[:80]!r}. " + (
        f"Is it {near[0]!r}?" if near else "docs/events.md lists them all."
    )


class Found(Struct, frozen=True):
    """An event, and where it is: its seq, or its cursor among those of all streams."""

    stream_id: str
    event: StoredEvent
    cursor: Cursor | None = None

    def line(self) -> EventLine:
        """Return the event as what stands in its line."""
        line = line_of(self.stream_id, self.event)
        return (
            line if self.cursor is None else TailedLine(*astuple(line), cursor=shown(self.cursor))
        )


class Source(Protocol):
    """Reads on, a part at a time."""

    at_end: bool
    """Whether the last part was the end of what there is."""

    def read(self, events_max: int) -> list[Found]:
        """Return the events that follow."""


class StreamSource:
    """One stream, after a seq and up to its head, or as far as it goes."""

    def __init__(self, log: EventLog, head: Head, query: StreamQuery) -> None:
        self._log = log
        self._head = head
        self._after = query.after or 0
        self._before = query.before
        self._follow = query.follow
        self.at_end = False

    def read(self, events_max: int) -> list[Found]:
        """See Source.read."""
        if self._follow:
            self._head = self._log.head(self._head.stream_id) or self._head
        head = self._head
        before = min(self._before or head.version + 1, head.version + 1)
        found = list(self._log.read(head, after=self._after, before=before, limit=events_max))
        if found:
            self._after = found[-1].seq
        self.at_end = self._after >= before - 1 or not found
        return [Found(head.stream_id, event) for event in found]


class LogSource:
    """All streams, after a cursor and up to ``until``, or as far as they go.

    Types that are not wanted are not even read.
    """

    def __init__(
        self, log: EventLog, after: Cursor, types: frozenset[str], until: Cursor | None
    ) -> None:
        self._log = log
        self._after = after
        self._types = types
        self._until = until
        self.at_end = False

    def read(self, events_max: int) -> list[Found]:
        """See Source.read."""
        found = self._log.tail(self._after, types=self._types, limit=events_max)
        self.at_end = len(found) < events_max
        if self._until is not None and found and found[-1].cursor > self._until:
            found = [each for each in found if each.cursor <= self._until]
            self.at_end = True
        if found:
            self._after = found[-1].cursor
        return [Found(each.stream_id, each.event, each.cursor) for each in found]


class _Parts:
    """Reads a source in parts that are small, however large its events are."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._events_max = CHUNK_EVENTS_MIN

    def next(self) -> list[Found]:
        """Return the next part; other requests have their turn before it."""
        give_way()
        found = self._source.read(self._events_max)
        if found:
            size = sum([len(each.event.payload or b"") for each in found]) // len(found)
            fitting = CHUNK_BYTES // max(size, 1)
            self._events_max = max(1, min(4 * self._events_max, fitting, CHUNK_EVENTS_MAX))
        return found


class Page(Struct, frozen=True):
    """Events that pass, the last one that was looked at, and whether more follow it."""

    events: list[Found]
    last: Found | None
    more: bool


def page_of(source: Source, wanted: Filter, limit: int | None) -> Page:
    """Return the next events that pass, within all of the limits above."""
    events: list[Found] = []
    last: Found | None = None
    size = scanned = 0
    parts = _Parts(source)
    while scanned < SCANNED_EVENTS_MAX:
        part = parts.next()
        for index, last in enumerate(part, 1):
            if wanted.passes(last.stream_id, last.event):
                events.append(last)
                size += len(last.event.payload or b"")
                if len(events) >= min(limit or PAGE_EVENTS_MAX, PAGE_EVENTS_MAX) or (
                    size >= PAGE_BYTES_MAX
                ):
                    return Page(events, last, not source.at_end or index < len(part))
        scanned += len(part)
        if source.at_end:
            return Page(events, last, more=False)
    return Page(events, last, more=True)


def lines(
    source: Source,
    wanted: Filter,
    watcher: Watcher,
    *,
    limit: int | None,
    heartbeat_s: float | None,
    shared: bool,
) -> Iterator[bytes]:
    """Yield the events that pass as lines, a write's worth at a time.

    Without a ``heartbeat_s`` they end with what there is; else they go on, with a blank line when
    that time has passed without any, until the watcher is to end. ``shared``: others write too.
    """
    parts = _Parts(source)
    left = limit
    if heartbeat_s is not None:
        yield BLANK
    said_at = time.monotonic()
    woken = False
    while not watcher.stopped:
        ending = watcher.ending
        part = parts.next()
        passed = [each for each in part if wanted.passes(each.stream_id, each.event)][:left]
        for piece in pieces([_encode(each.line()) + b"\n" for each in passed]):
            yield piece
            said_at = time.monotonic()
        if left is not None:
            left -= len(passed)
        if left == 0 or (source.at_end and (ending or heartbeat_s is None)):
            return
        if heartbeat_s is None:
            continue
        silent_s = time.monotonic() - said_at
        if silent_s >= heartbeat_s:
            yield BLANK
            said_at, silent_s = time.monotonic(), 0.0
        if source.at_end:
            poll_s = heartbeat_s if not shared else UNSEEN_S if woken and not part else POLL_S
            woken = watcher.wait(min(heartbeat_s - silent_s, poll_s))


def shown(cursor: Cursor) -> str:
    """Return a cursor as text."""
    return f"{cursor.transaction}-{cursor.position}"


def cursor_of(text: str | None, log: EventLog) -> Cursor:
    """Return the cursor that a text says, by default the log's beginning. Raises Problem 400."""
    if text is None:
        return Cursor(0, 0)
    if text == END:
        return log.end()
    transaction, position = map(int, text.split("-"))
    if max(transaction, position) > INTEGER_MAX:
        raise Problem(400, "This is not a cursor of this log.")
    return Cursor(transaction, position)


def tailed_lines(events: Sequence[Found]) -> list[TailedLine]:
    """Return events of all streams as lines."""
    found = [each.line() for each in events]
    return [each for each in found if isinstance(each, TailedLine)]
