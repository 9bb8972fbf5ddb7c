"""The newest messages of a loaded session, so that a run seldom has to read the log."""

from collections import deque
from collections.abc import Iterator, Sequence

from msgspec import Struct

from actors.feed import Committed
from actors.runs.context import Counted, counted
from actors.session import events as e
from actors.session.messages import Message, ToolResultMessage, Usage
from actors.session.state import Run, SessionState
from persistence.records import Head

TOKENS_MAX = 4_096
"""What is kept of one session: about 16 KB of text."""


class Recent(Struct, frozen=True):
    """The newest messages with their seqs; those up to seq ``since`` are in the log only."""

    kept: tuple[Counted, ...]
    since: int

    def newest_first(self) -> Iterator[Message]:
        """Yield the messages."""
        return (each.message for each in self.counted())

    def counted(self) -> Iterator[Counted]:
        """Yield the messages with their seqs and tokens, the newest first."""
        for each in reversed(self.kept):
            if each.seq <= self.since:
                return
            yield each


class EndedRun(Struct, frozen=True):
    """A run that is over: ``state`` is the session's just before, ``recent`` what was said.

    ``end`` is the event that ended it, ``usage`` all that its model calls took until then.
    """

    head: Head
    state: SessionState
    run: Run
    recent: Recent
    end: e.Event
    usage: Usage

    @property
    def completed(self) -> bool:
        """Tell whether the model stopped by itself."""
        return isinstance(self.end, e.RunCompleted)


class Conversation:
    """Follows a session's events and keeps its newest messages."""

    def __init__(self, since: int) -> None:
        self._since = since
        self._kept: deque[Counted] = deque()
        self._tokens = 0

    def follow(self, committed: Sequence[Committed]) -> None:
        """Take in what was committed."""
        for each in committed:
            message = message_of(each.event)
            if message is not None:
                self._keep(counted(each.seq, message))
        while self._tokens > TOKENS_MAX:
            oldest = self._kept.popleft()
            self._since = oldest.seq
            self._tokens -= oldest.tokens

    def recent(self, first_seq: int) -> Recent:
        """Return the newest messages from ``first_seq`` on, as they are now."""
        return Recent(tuple(self._kept), max(self._since, first_seq - 1))

    def _keep(self, newest: Counted) -> None:
        self._kept.append(newest)
        self._tokens += newest.tokens


def message_of(event: e.Event) -> Message | None:
    """Return the message that an event adds to the conversation, where it adds one."""
    if isinstance(event, e.MessageCompleted):
        return event.message
    return result_of(event) if isinstance(event, e.ToolCompleted) else None


def result_of(event: e.ToolCompleted) -> ToolResultMessage:
    """Return a tool's result as the message of the conversation that it is."""
    return ToolResultMessage(
        event.tool_call_id,
        event.tool_name,
        event.content,
        event.at,
        event.is_error,
        event.details,
    )
