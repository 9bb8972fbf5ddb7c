"""A session's events as a terminal shows them while they happen. Pure."""

from collections.abc import Callable
from typing import Any

import click
import msgspec

from actors.feed import Committed
from actors.session import events as e
from actors.session import record_events as r
from actors.session.messages import AssistantMessage, Image, Text, Thinking, UserMessage, text_of
from web.cli.text import printable

ARGUMENTS_CHARACTERS = 300
RESULT_LINES = 20
_DELTAS = (e.TextDelta.wire_name, e.ThinkingDelta.wire_name, e.ToolInputDelta.wire_name)


class Screen:
    """Says what to write for each event; it remembers where the line is, and what was streamed."""

    def __init__(self) -> None:
        self._fresh = True
        self._streaming = ""
        self._streamed: dict[int, str] = {}
        self._progressed: set[str] = set()

    def show(self, committed: Committed) -> str:
        """Return what an event adds to the screen."""
        event = committed.event
        if isinstance(event, e.PromptQueued):
            waits = committed.state.processing
            return self._line(f"… waits: {event.text}", dim=True) if waits else ""
        draw = _DRAW.get(type(event))
        if draw is None:
            return ""
        drawn: str = draw(self, event)
        return drawn

    def end(self) -> str:
        """Return what ends the last line."""
        fresh, self._fresh = self._fresh, True
        return "" if fresh else "\n"

    def _line(self, text: str, **style: Any) -> str:  # noqa: ANN401 - click's styles
        """Return whole lines, of their own."""
        self._streaming = ""
        return self.end() + click.style(printable(text), **style) + "\n"

    def _said(self, kind: str, index: int, text: str) -> str:
        """Return a piece of what a model says; another kind begins on another line."""
        if not text:
            return ""
        begin = self.end() if self._streaming not in ("", kind) else ""
        self._streaming = kind
        self._streamed[index] = self._streamed.get(index, "") + text
        self._fresh = text.endswith("\n")
        shown = printable(text)
        return begin + (click.style(shown, dim=True) if kind == "thinking" else shown)

    def _text(self, event: e.TextDelta) -> str:
        return self._said("text", event.index, event.text)

    def _thinking(self, event: e.ThinkingDelta) -> str:
        return self._said("thinking", event.index, event.text)

    def _message(self, event: e.MessageCompleted) -> str:
        message = event.message
        if isinstance(message, UserMessage):
            pictures = sum(isinstance(block, Image) for block in message.content)
            said = text_of(message.content) + " [a picture]" * pictures
            return self.end() + "\n" + self._line(f"> {said}", bold=True, fg="cyan")
        if not isinstance(message, AssistantMessage):
            return self._result("", text_of(message.content))
        shown = "".join([self._rest(*each) for each in enumerate(message.content)])
        self._streamed.clear()
        self._streaming = ""
        end = self.end()
        return shown + end + (self._line(message.error, fg="red") if message.error else "")

    def _rest(self, index: int, block: object) -> str:
        """Return what of a block was not streamed."""
        if not isinstance(block, Text | Thinking):
            return ""
        streamed = self._streamed.get(index, "")
        if not block.text.startswith(streamed):
            return ""
        kind = "text" if isinstance(block, Text) else "thinking"
        return self._said(kind, index, block.text[len(streamed) :])

    def _tool_started(self, event: e.ToolStarted) -> str:
        return self._line(_call(event.tool_name, event.arguments), fg="yellow")

    def _tool_progressed(self, event: e.ToolProgressed) -> str:
        self._progressed.add(event.tool_call_id)
        self._fresh = event.text.endswith("\n")
        return click.style(printable(event.text), dim=True)

    def _tool_completed(self, event: e.ToolCompleted) -> str:
        shown = event.tool_call_id in self._progressed and not event.is_error
        outcome = "" if event.outcome == "ok" else f"{event.outcome}: "
        return self._result(outcome, "" if shown else text_of(event.content))

    def _result(self, outcome: str, text: str) -> str:
        lines = text.splitlines()
        if len(lines) > RESULT_LINES:
            left = len(lines) - RESULT_LINES
            lines = [*lines[:RESULT_LINES], f"… and {left} more lines"]
        shown = outcome + "\n".join(lines)
        if not shown:
            return self.end()
        return self._line(shown, dim=True, fg="red" if outcome else None)

    def _approval_requested(self, event: e.ApprovalRequested) -> str:
        call = _call(event.tool_name, event.arguments)
        return self._line(f"? {call} ({event.reason})", fg="magenta")

    def _approval_resolved(self, event: e.ApprovalResolved) -> str:
        answer = "approved" if event.approved else "denied"
        return self._line(f"= {answer} {event.reason}".rstrip(), fg="magenta")

    def _steering(self, event: e.SteeringReceived) -> str:
        return self._line(f">> {event.text}", fg="cyan")

    def _retried(self, event: e.TurnRetried) -> str:
        return self._line(f"! {event.error}; again in {event.delay_ms} ms", fg="yellow")

    def _compacted(self, event: e.ContextCompacted) -> str:
        return self._line(f"— summary of what came before: {event.summary}", dim=True)

    def _model(self, event: e.ModelSelected) -> str:
        return self._line(f"— model {event.provider}/{event.model_id}", dim=True)

    def _forked(self, event: r.SessionForked) -> str:
        return self._line(f"— made of {event.source_key} at {event.source_seq}", dim=True)

    def _branched(self, event: r.SessionBranched) -> str:
        return self._line(f"— {event.into_key} made of this", dim=True)

    def _renamed(self, event: e.SessionRenamed) -> str:
        return self._line(f"— named {event.name}", dim=True)

    def _ended(self, event: e.RunFailed | e.RunAborted | e.RunInterrupted | e.RunContinued) -> str:
        why = getattr(event, "error", "") or getattr(event, "reason", "")
        return self._line(f"! {event.wire_name} {why}".rstrip(), fg="red")

    def _erased(self, event: e.Erased) -> str:
        if event.type in _DELTAS:  # its message says the same
            return ""
        return self._line(f"[erased: {event.type}]", dim=True)

    def _noted(self, event: e.Event) -> str:
        return self._line(f"— {event.wire_name}", dim=True)


def _call(name: str, arguments: Any) -> str:  # noqa: ANN401 - any JSON value
    shown = msgspec.json.encode(arguments).decode()
    cut = "…" if len(shown) > ARGUMENTS_CHARACTERS else ""
    return f"* {name} {shown[:ARGUMENTS_CHARACTERS]}{cut}"


_DRAW: dict[type[e.Event], Callable[[Screen, Any], str]] = {
    e.TextDelta: Screen._text,
    e.ThinkingDelta: Screen._thinking,
    e.MessageCompleted: Screen._message,
    e.ToolStarted: Screen._tool_started,
    e.ToolProgressed: Screen._tool_progressed,
    e.ToolCompleted: Screen._tool_completed,
    e.ApprovalRequested: Screen._approval_requested,
    e.ApprovalResolved: Screen._approval_resolved,
    e.SteeringReceived: Screen._steering,
    e.TurnRetried: Screen._retried,
    e.ContextCompacted: Screen._compacted,
    e.ModelSelected: Screen._model,
    e.RunFailed: Screen._ended,
    e.RunAborted: Screen._ended,
    e.RunInterrupted: Screen._ended,
    e.RunContinued: Screen._ended,
    e.SessionCreated: Screen._noted,
    e.SessionImported: Screen._noted,
    e.SessionReset: Screen._noted,
    e.SessionDeleted: Screen._noted,
    e.SessionRenamed: Screen._renamed,
    r.SessionForked: Screen._forked,
    r.SessionBranched: Screen._branched,
    r.SessionHeld: Screen._noted,
    r.SessionReleased: Screen._noted,
    r.StreamErased: Screen._noted,
    e.Erased: Screen._erased,
}
