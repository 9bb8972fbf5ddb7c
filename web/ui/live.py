"""What changes on a session's page as events are committed: as frames of server-sent events."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from actors.feed import Committed, FeedClosedError
from actors.runs.conversation import message_of
from actors.session import events as e
from actors.session.record_events import StreamErased
from actors.session.state import SessionState
from actors.tail import Tail
from web.sse import HEARTBEAT, OPENING
from web.ui.bubbles import Bubble, end_bubble, message_bubble
from web.ui.lanes import committed_mark

STEP_EVENTS_MAX = 200
"""A frame tells of so many events at most."""

DELTAS = (e.TextDelta, e.ThinkingDelta, e.ToolInputDelta)
ANEW = (e.SessionReset, e.SessionDeleted, StreamErased)
"""After these the page is not what it was with something added: it is fetched again."""

Step = list[Any]
Render = Callable[[Bubble], str]
RenderPanel = Callable[[SessionState], str]

_encode = msgspec.json.Encoder().encode


class Frames:
    """Turns committed events into frames; their id is the last event's seq.

    ``steps`` are in order: ["delta", index, kind, tool, text], ["progress", call, tool, text] of
    a tool that runs, ["message", HTML], ["end"] of what streamed, ["anew"]. ``panel`` is HTML,
    where the state may have changed.
    """

    def __init__(
        self, render: Render, render_panel: RenderPanel, now_ms: Callable[[], int]
    ) -> None:
        self._render = render
        self._render_panel = render_panel
        self._now_ms = now_ms

    def frames(self, batch: Sequence[Committed]) -> Iterator[bytes]:
        """Yield the frames of a batch."""
        for start in range(0, len(batch), STEP_EVENTS_MAX):
            yield self._frame(batch[start : start + STEP_EVENTS_MAX])

    def _frame(self, batch: Sequence[Committed]) -> bytes:
        steps: list[Step] = []
        for committed in batch:
            self._add(steps, committed)
        now = self._now_ms()
        body: dict[str, Any] = {
            "seq": batch[-1].seq,
            "steps": steps,
            "marks": [committed_mark(each.seq, each.event, now).wire() for each in batch],
        }
        if not all(isinstance(each.event, DELTAS) for each in batch):
            body["panel"] = self._render_panel(batch[-1].state)
        return b"id: %d\ndata: %b\n\n" % (batch[-1].seq, _encode(body))

    def _add(self, steps: list[Step], committed: Committed) -> None:
        event, state = committed.event, committed.state
        if isinstance(event, DELTAS):
            _add_delta(steps, event)
            return
        if isinstance(event, ANEW):
            steps.append(["anew"])
            return
        if isinstance(event, e.ToolProgressed):
            _add_progress(steps, event)
            return
        bubble = end_bubble(committed.seq, event)
        message = message_of(event)
        if message is not None:
            bubble = message_bubble(state.session_id, committed.seq, message)
        if bubble is not None:
            steps.append(["message", self._render(bubble)])
        if state.draft_at is None and (not steps or steps[-1] != ["end"]):
            steps.append(["end"])


def _add_delta(steps: list[Step], event: e.TextDelta | e.ThinkingDelta | e.ToolInputDelta) -> None:
    kind, tool = "plain", ""
    if isinstance(event, e.ThinkingDelta):
        kind = "thinking"
    elif isinstance(event, e.ToolInputDelta):
        kind, tool = "call", event.tool_name
    last = steps[-1] if steps else []
    if last[:4] == ["delta", event.index, kind, tool]:
        last[4] += event.text
    else:
        steps.append(["delta", event.index, kind, tool, event.text])


def _add_progress(steps: list[Step], event: e.ToolProgressed) -> None:
    last = steps[-1] if steps else []
    if last[:3] == ["progress", event.tool_call_id, event.tool_name]:
        last[3] += event.text
    else:
        steps.append(["progress", event.tool_call_id, event.tool_name, event.text])


def chunks(
    tail: Tail, frames: Frames, heartbeat_s: Callable[[], float], is_over: Callable[[], bool]
) -> Iterator[bytes]:
    """Yield a page's stream until the session's owner is gone, or the session is deleted.

    It ends also when ``is_over``, the visitor's time, which is looked at with each heartbeat.
    """
    yield OPENING
    while not is_over():
        try:
            batch = tail.next(heartbeat_s())
        except FeedClosedError:
            return
        if not batch:
            yield HEARTBEAT
        yield from frames.frames(batch)
        if batch and isinstance(batch[-1].event, e.SessionDeleted):
            return
