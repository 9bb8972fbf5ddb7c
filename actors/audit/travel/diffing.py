"""What changed in a session between two places, and where two sessions part."""

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from actors.audit.travel.forking import origin_of
from actors.replay import decode, unhurried
from actors.runs.conversation import message_of
from actors.session import events as e
from actors.session.messages import AssistantMessage, Block, Message, ToolResultMessage, Usage
from actors.session.record_events import SessionForked, StreamErased
from actors.session.state import SessionState
from persistence.event_log import EventLog
from persistence.records import Head

WITH_USAGE = (e.TurnEnded.wire_name, e.ContextCompacted.wire_name)


class Happened(Struct):
    """What lies between two places: how many events of each type, and what they used.

    ``gone`` is how many messages of the first are not in the second: reset, deleted, or erased.
    """

    events: dict[str, int]
    usage: Usage
    gone: int


def happened(log: EventLog, head: Head, before: SessionState, after: SessionState) -> Happened:
    """Return what happened between two states of a session."""
    counts: Counter[str] = Counter()
    usage = Usage()
    ranges: list[tuple[int, int]] = []
    for stored in unhurried(log.read(head, after=before.version, before=after.version + 1)):
        counts[stored.type] += 1
        if stored.type in WITH_USAGE:
            usage += getattr(decode(head.stream_id, stored), "usage", Usage())
        elif stored.type == StreamErased.wire_name:
            event = decode(head.stream_id, stored)
            ranges.extend(event.ranges if isinstance(event, StreamErased) else ())
    if after.first_seq > before.version:
        return Happened(dict(counts), usage, before.message_count)
    return Happened(dict(counts), usage, _erased(log, head, before, ranges))


def _erased(log: EventLog, head: Head, before: SessionState, ranges: list[tuple[int, int]]) -> int:
    """Return how many messages of a state are in the ranges, and erased."""
    seqs: set[int] = set()
    for first, last in ranges:
        low, high = max(first, before.first_seq), min(last, before.version)
        read = log.read(head, after=low - 1, before=high + 1, paged=True)
        seqs.update(each.seq for each in unhurried(read) if each.payload is None)
    return len(seqs)


class Side(Struct, frozen=True):
    """A session as it is compared."""

    head: Head
    state: SessionState


class Parting(Struct):
    """Where two sessions part: ``common`` messages are the same in both, from the first on.

    What each has of its own follows its seq. ``fork`` is how the one began as the other.
    """

    common: int
    mine_after: int
    theirs_after: int
    fork: SessionForked | None = None


def parting(log: EventLog, mine: Side, theirs: Side) -> Parting:
    """Return where two sessions part.

    Times, prices and ids of messages don't count. A fork begins with all that it took over.
    """
    parted = _forked(log, mine, theirs)
    ours = _messages(log, mine, parted.mine_after)
    others = _messages(log, theirs, parted.theirs_after)
    for (seq, message), (their_seq, their_message) in zip(ours, others, strict=False):
        if _said(message) != _said(their_message):
            break
        parted.common += 1
        parted.mine_after, parted.theirs_after = seq, their_seq
    return parted


def _forked(log: EventLog, mine: Side, theirs: Side) -> Parting:
    """Return how far the two are the same because one was made of the other."""
    for source, fork in ((mine, theirs), (theirs, mine)):
        origin = origin_of(log, fork.head, fork.state)
        if origin is None or not _is_of(source.state, origin):
            continue
        copied_until = fork.state.first_seq + 1 + origin.copied
        copied = log.read(
            fork.head, after=fork.state.first_seq, before=copied_until + 1, paged=True
        )
        common = sum(1 for _each in unhurried(copied))
        if source is mine:
            return Parting(common, origin.source_seq, copied_until, origin)
        return Parting(common, copied_until, origin.source_seq, origin)
    return Parting(0, mine.state.first_seq, theirs.state.first_seq)


def _is_of(state: SessionState, origin: SessionForked) -> bool:
    return (
        origin.source_key == state.key
        and origin.source_session_id == state.session_id
        and origin.source_seq <= state.version
    )


def _messages(log: EventLog, side: Side, after: int) -> Iterator[tuple[int, Message]]:
    read = log.read(side.head, after=after, before=side.state.version + 1, paged=True)
    for stored in unhurried(read):
        message = message_of(decode(side.head.stream_id, stored))
        if message is not None:
            yield stored.seq, message


def _said(message: Message) -> tuple[str, tuple[Block, ...], str, str]:
    """Return what makes a message the same as another one."""
    if isinstance(message, AssistantMessage):
        return "assistant", message.content, message.provider, message.model_id
    if isinstance(message, ToolResultMessage):
        return "toolResult", message.content, message.tool_name, str(message.is_error)
    return "user", message.content, "", ""
