"""The newest lines about what the gateway does, for operators who look now.

They are told from committed events, and hold no word of a prompt or an answer unless configured.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from actors.feed import Committed
from actors.session import events as e
from actors.session.messages import AssistantMessage, text_of
from actors.session.record_events import StreamErased
from actors.timers import now_ms

KEPT_LINES = 1_000
ANSWER_CHARACTERS = 96
STEERING_CHARACTERS = 80


class LogLine(Struct, frozen=True, gc=False):
    """One line; ``at`` is in milliseconds since the epoch."""

    at: int
    level: str
    line: str


class LogLines:
    """Keeps the newest lines. ``texts`` tells whether they may quote what was said."""

    def __init__(self, texts: Callable[[], bool], now_ms: Callable[[], int] = now_ms) -> None:
        self._texts = texts
        self._now_ms = now_ms
        self._lines: deque[LogLine] = deque(maxlen=KEPT_LINES)
        self._lock = threading.Lock()
        self._untold: deque[LogLine] | None = None

    def add(self, line: str, level: str = "info") -> None:
        """Keep a line; control characters in it are shown as escapes."""
        printable = line if line.isprintable() else json.dumps(line, ensure_ascii=False)[1:-1]
        kept = LogLine(self._now_ms(), level, printable)
        with self._lock:
            self._lines.append(kept)
            if self._untold is not None:
                self._untold.append(kept)

    def tell_others(self) -> None:
        """Gather, from now on, what other processes have to be told."""
        self._untold = deque(maxlen=KEPT_LINES)

    def untold(self) -> list[LogLine]:
        """Return what has been added here since it was last asked for."""
        with self._lock:
            lines = list(self._untold or ())
            if self._untold is not None:
                self._untold.clear()
        return lines

    def take(self, lines: Sequence[LogLine]) -> None:
        """Keep what another process has to tell."""
        for each in lines:
            if each.line.endswith(_ERASED) and each.line.startswith(_SESSION):
                self.forget(each.line.removeprefix(_SESSION).removesuffix(_ERASED))
        with self._lock:
            self._lines.extend(lines)

    def follow(self, key: str, committed: Sequence[Committed]) -> None:
        """Keep what a session's events have to say."""
        for each in committed:
            if isinstance(each.event, StreamErased):
                self.forget(key)
            say = _SAY.get(type(each.event))
            if say is not None:
                line = say(each, self._quoted)
                if line is not None:
                    self.add(f"[{line[0]}] session={key} {line[1]}")

    def forget(self, key: str) -> None:
        """Keep no line that may quote what was said in a session."""
        about = (f"session={key} ", f"/sessions/{key}/", f"/sessions/{key} ")
        with self._lock:
            for lines in (self._lines, self._untold):
                if lines is not None:
                    left = [line for line in lines if not any(each in line.line for each in about)]
                    lines.clear()
                    lines.extend(left)

    def newest(self, count: int) -> list[LogLine]:
        """Return the newest lines, the oldest of them first."""
        with self._lock:
            return list(self._lines)[-count:]

    def _quoted(self, text: str, characters: int) -> str:
        if not self._texts():
            return f"chars={len(text)}"
        return f"text={json.dumps(text[:characters], ensure_ascii=False)}"


class LogLinesHandler(logging.Handler):
    """Keeps what the program logs, too. Attach it to a logger."""

    def __init__(self, lines: LogLines) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's message, without its traceback."""
        level = record.levelname.lower()
        self._lines.add(f"[{record.name}] {record.getMessage()}", level)


Quote = Callable[[str, int], str]
Line = tuple[str, str]
"""What a line begins with, and how it goes on after the session's key."""


def _queued(committed: Committed, _quote: Quote) -> Line:
    event = _as(committed, e.PromptQueued)
    depth = len(committed.state.queue)
    return "session", f"queued source={event.source} depth={depth}"


def _processing(committed: Committed, _quote: Quote) -> Line:
    state = committed.state
    source = "" if state.run is None else state.run.source
    return "session", f"processing source={source} remaining={len(state.queue)}"


def _answered(committed: Committed, quote: Quote) -> Line | None:
    message = _as(committed, e.MessageCompleted).message
    if not isinstance(message, AssistantMessage):
        return None
    text = quote(text_of(message.content), ANSWER_CHARACTERS)
    return "session", f"assistant_complete {text}"


def _tool_started(committed: Committed, _quote: Quote) -> Line:
    event = _as(committed, e.ToolStarted)
    return "session", f"tool_start name={event.tool_name} call={event.tool_call_id}"


def _tool_completed(committed: Committed, _quote: Quote) -> Line:
    event = _as(committed, e.ToolCompleted)
    ok = "false" if event.is_error else "true"
    return "session", f"tool_complete name={event.tool_name} call={event.tool_call_id} ok={ok}"


def _asked(committed: Committed, _quote: Quote) -> Line:
    event = _as(committed, e.ApprovalRequested)
    return "session", f"approval_request name={event.tool_name} call={event.tool_call_id}"


def _answered_approval(committed: Committed, _quote: Quote) -> Line:
    event = _as(committed, e.ApprovalResolved)
    approved = "true" if event.approved else "false"
    return "session", f"approval_resolved call={event.tool_call_id} approved={approved}"


def _retried(committed: Committed, _quote: Quote) -> Line:
    event = _as(committed, e.TurnRetried)
    return "prompt", f"retry attempt={event.attempt} delay_ms={event.delay_ms}: {event.error}"


def _compacted(committed: Committed, _quote: Quote) -> Line:
    event = _as(committed, e.ContextCompacted)
    return "session", f"compacted reason={event.reason} tokens={event.tokens_before}"


def _steered(committed: Committed, quote: Quote) -> Line:
    text = quote(_as(committed, e.SteeringReceived).text, STEERING_CHARACTERS)
    return "session", f"steer {text}"


def _failed(committed: Committed, _quote: Quote) -> Line:
    return "prompt", f"error: {_as(committed, e.RunFailed).error}"


def _interrupted(committed: Committed, _quote: Quote) -> Line:
    return "prompt", f"error: {_as(committed, e.RunInterrupted).reason}"


def _continued(committed: Committed, _quote: Quote) -> Line:
    event = _as(committed, e.RunContinued)
    return "prompt", f"continued attempt={event.attempt}: {event.reason}"


def _plain(words: str) -> Callable[[Committed, Quote], Line]:
    return lambda _committed, _quote: ("session", words)


def _as(committed: Committed, kind: type[Any]) -> Any:  # noqa: ANN401 - an event of that kind
    assert isinstance(committed.event, kind)
    return committed.event


_SAY: dict[type[e.Event], Callable[[Committed, Quote], Line | None]] = {
    e.SessionCreated: _plain("created"),
    e.SessionReset: _plain("reset"),
    e.SessionDeleted: _plain("deleted"),
    e.PromptQueued: _queued,
    e.PromptCancelled: _plain("cancelled"),
    e.RunStarted: _processing,
    e.RunAborted: _plain("aborted"),
    e.RunFailed: _failed,
    e.RunInterrupted: _interrupted,
    e.RunContinued: _continued,
    e.TurnStarted: _plain("turn_start"),
    e.TurnEnded: _plain("turn_end"),
    e.MessageCompleted: _answered,
    e.ToolStarted: _tool_started,
    e.ToolCompleted: _tool_completed,
    e.ApprovalRequested: _asked,
    e.ApprovalResolved: _answered_approval,
    e.TurnRetried: _retried,
    e.ContextCompacted: _compacted,
    e.SteeringReceived: _steered,
    StreamErased: _plain("erased"),
}

_SESSION = "[session] session="
_ERASED = " erased"
