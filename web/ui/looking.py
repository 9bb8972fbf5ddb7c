"""What a session's page is made of, read from the log a window at a time."""

from collections.abc import Iterator
from typing import NamedTuple

from actors.audit.travel.places import state_as_of
from actors.replay import decode, stream_of, unhurried
from actors.session import events as e
from actors.session.state import SessionState
from actors.session.summary import shown_approvals
from persistence.event_log import EventLog
from persistence.records import Head
from web.bootstrap import Gateway
from web.errors import Problem
from web.ui.bubbles import Bubble, arguments_text, bubble_of, end_bubble
from web.ui.lanes import KINDS, Mark, first_of, mark_of
from web.ui.templating import shown_usd
from web.views import digest_of

WINDOW_MESSAGES = 50
WINDOW_BYTES = 512 * 1024
"""A window of messages ends before the one whose payload would make it larger, but for one."""

ENDS = frozenset(each.wire_name for each in (e.RunFailed, e.RunAborted, e.RunInterrupted))
END_EVENTS_MAX = 50
"""Between a run's end and the next message are few events: prompts that are queued, names."""

MARKS_MAX = 1_000
SCANNED_EVENTS_MAX = 20_000
"""A jump looks at so many events, then stops where it is; the next one goes on from there."""


class Window(NamedTuple):
    """Messages, the oldest first; ``earlier`` is the seq before which there are more."""

    bubbles: list[Bubble]
    earlier: int | None


class Jump(NamedTuple):
    """Where a jump ended; ``found`` unless it gave up there, or at the log's end."""

    seq: int
    found: bool


def window(log: EventLog, state: SessionState, before: int | None = None) -> Window:
    """Return the newest messages of a state that lie before a seq; costs no more for long ones."""
    stream_id = stream_of(state.key)
    head = log.head(stream_id)
    assert head is not None
    high = state.version + 1 if before is None else min(before, state.version + 1)
    read = log.read(
        head,
        after=state.first_seq,
        before=high,
        limit=WINDOW_MESSAGES + 1,
        newest_first=True,
        paged=True,
    )
    bubbles: list[Bubble] = []
    size, oldest, earlier = 0, high, None
    for count, stored in enumerate(read):
        size += len(stored.payload or b"")
        if count == WINDOW_MESSAGES or (bubbles and size > WINDOW_BYTES):
            earlier = oldest
            break
        oldest = stored.seq
        bubble = bubble_of(stream_id, state.session_id, stored)
        if bubble is not None:
            bubbles.append(bubble)
    shown = list(
        _with_ends(log, head, bubbles[::-1], None if before is None and state.run else high)
    )
    return Window(shown, earlier)


def _with_ends(
    log: EventLog, head: Head, bubbles: list[Bubble], high: int | None
) -> Iterator[Bubble]:
    """Yield messages, and after those of a run without an answer how it ended."""
    for place, bubble in enumerate(bubbles):
        yield bubble
        following = bubbles[place + 1] if place + 1 < len(bubbles) else None
        before = high if following is None else following.seq
        if bubble.last_word or before is None or (following and following.role != "user"):
            continue
        end = _end_between(log, head, bubble.seq, before)
        if end is not None:
            yield end


def _end_between(log: EventLog, head: Head, after: int, before: int) -> Bubble | None:
    read = log.read(head, after=after, before=before, limit=END_EVENTS_MAX, newest_first=True)
    for stored in read:
        if stored.type in ENDS:
            return end_bubble(stored.seq, decode(head.stream_id, stored))
    return None


def messages_after(
    log: EventLog, state: SessionState, after: int, limit: int, end: int | None = None
) -> tuple[list[Bubble], bool]:
    """Return the first messages after a seq, up to ``end``, and whether there are more."""
    stream_id = stream_of(state.key)
    head = log.head(stream_id)
    assert head is not None
    low = max(after, state.first_seq)
    high = (state.version if end is None else end) + 1
    read = log.read(head, after=low, before=high, limit=limit + 1, paged=True)
    stored = list(read)
    found = [bubble_of(stream_id, state.session_id, each) for each in stored[:limit]]
    return [each for each in found if each is not None], len(stored) > limit


def seen_at(log: EventLog, key: str, seq: int | None, current: SessionState) -> SessionState:
    """Return a session's state after an event, by default now.

    Raises BeyondEndError or NeverWasError.
    """
    if seq is None or seq == current.version:
        return current
    head = log.head(stream_of(key))
    assert head is not None
    return state_as_of(log, head, key, str(seq))


def marks(log: EventLog, head: Head, after: int, limit: int) -> list[Mark]:
    """Return the places of the events that follow a seq, MARKS_MAX at most."""
    read = log.read(head, after=after, limit=min(limit, MARKS_MAX))
    return [mark_of(each, decode(head.stream_id, each)) for each in unhurried(read)]


def jump(log: EventLog, head: Head, start: int, kind: str, *, forward: bool) -> Jump:
    """Return the next event of a kind after or before a seq. Raises Problem 400."""
    if kind not in KINDS:
        raise Problem(400, f"One can jump to {', '.join(KINDS)}, not to {kind!r}.")
    seen = start
    for mark in _ahead(log, head, start, forward=forward):
        if first_of(kind, [mark]):
            return Jump(mark.seq, found=True)
        seen = mark.seq
    return Jump(seen, found=False)


def _ahead(log: EventLog, head: Head, start: int, *, forward: bool) -> Iterator[Mark]:
    limit = SCANNED_EVENTS_MAX
    if forward:
        read = log.read(head, after=start, limit=limit)
    else:
        read = log.read(head, before=start, limit=limit, newest_first=True)
    for stored in unhurried(read):
        yield mark_of(stored, decode(head.stream_id, stored))


class Panel(NamedTuple):
    """A state as people read it: names and values, and what waits; "" for no digest."""

    facts: list[tuple[str, str]]
    queue: list[str]
    steering: list[str]
    approvals: list[tuple[str, str, str, str]]
    digest: str


def panel(gateway: Gateway, state: SessionState) -> Panel:
    """Return what is shown of a state beside its messages."""
    model = gateway.registry.models.resolve(state.model)
    run = state.run
    usage = state.usage
    tools = ", ".join([each.tool_name for each in state.tools])
    facts = [
        ("Session", state.session_id),
        ("Name", state.name),
        ("Model", f"{model.provider}/{model.model_id}"),
        ("Thinking", state.thinking_level),
        ("Messages", str(state.message_count)),
        ("Run", "" if run is None else _run(state)),
        ("Tools open", tools),
        ("Tokens", f"{usage.input:,} in, {usage.output:,} out"),
        ("Cost", shown_usd(usage.cost_usd)),
        ("On hold", state.hold),
    ]
    approvals = [
        (each.id, each.tool_name, arguments_text(each.args), each.reason)
        for each in shown_approvals(state)
    ]
    return Panel(
        [each for each in facts if each[1]],
        [each.text for each in state.queue],
        [each.text for each in state.steering],
        approvals,
        digest_of(state),
    )


def _run(state: SessionState) -> str:
    assert state.run is not None
    if state.pending:
        return f"turn {state.run.turn}, waits for approval"
    return f"turn {state.run.turn}"
