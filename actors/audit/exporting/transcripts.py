"""A session's transcript out of the log, as Markdown or HTML."""

import shlex
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from actors.audit.exporting import transcript_html, transcript_markdown
from actors.audit.exporting.footer import Footer
from actors.audit.exporting.readable import shown_time
from actors.audit.exporting.transcript import Entry, entries
from actors.audit.exporting.writing import Exported, Seen, events_of, ignored
from actors.replay import STREAM_PREFIX, decode
from actors.session.record_events import StreamErased
from persistence.event_log import EventLog
from persistence.records import Head

Write = Callable[[str, Iterable[Entry], Footer], Iterator[str]]

WRITERS: dict[str, Write] = {
    "markdown": transcript_markdown.markdown,
    "html": transcript_html.html,
}


def transcript(log: EventLog, exported: Exported, form: str, seen: Seen = ignored) -> Iterator[str]:
    """Yield a transcript in pieces; reads the log as they are taken. Raises CorruptLogError."""
    head = exported.head
    stream_id = head.stream_id
    key = stream_id.removeprefix(STREAM_PREFIX)
    told = entries(
        events_of(log, head, seen),
        lambda stored: decode(stream_id, stored),
        _Erasures(log, head).reason,
    )
    yield from WRITERS[form](key, told, _footer(key, exported))


class _Record(Struct, frozen=True):
    ranges: tuple[tuple[int, int], ...]
    said: str


class _Erasures:
    """What the stream says was erased of it, read when something is found to be gone."""

    def __init__(self, log: EventLog, head: Head) -> None:
        self._log = log
        self._head = head
        self._records: list[_Record] | None = None

    def reason(self, seq: int) -> str:
        """Tell why the payload of this seq is gone, and since when."""
        if self._records is None:
            self._records = list(self._read(seq))
        for record in self._records:
            if any(first <= seq <= last for first, last in record.ranges):
                return record.said
        return "without a record"

    def _read(self, after: int) -> Iterator[_Record]:
        for stored in self._log.read(self._head, after=after):
            if stored.type != StreamErased.wire_name or stored.payload is None:
                continue
            event = decode(self._head.stream_id, stored)
            assert isinstance(event, StreamErased)
            yield _Record(event.ranges, f"{event.reason}, {shown_time(event.at)}")


def _footer(key: str, exported: Exported) -> Footer:
    proof = exported.proof
    name = shlex.quote(key)
    target = f"-- {name}" if key.startswith("-") else name
    public_keys = "".join([f" --public-key {shlex.quote(each)}" for each in exported.keys])
    return Footer(
        exported.head.stream_id,
        exported.head.version,
        exported.head.hash.hex(),
        None if proof is None else proof.checkpoint.rstrip("\n"),
        None if proof is None else proof.leaf.version,
        f"sessiond export --output session.jsonl {target}\n"
        f"sessiond verify session.jsonl{public_keys}",
    )
