"""A session's state. Pure.

The state holds what decisions need, not the conversation: that stays in the log, so a session of
100,000 messages takes no more memory than one of ten.
"""

from msgspec import Struct
from msgspec.structs import replace

from actors.session.messages import Usage

STATE_VERSION = 3
"""The shape of a stored state: raised whenever SessionState or evolve changes."""


class ModelRef(Struct, frozen=True, gc=False):
    """A model by its provider's name and its own."""

    provider: str
    model_id: str


class QueuedPrompt(Struct, frozen=True, gc=False):
    """A prompt that waits; ``seq`` is that of its ``prompt.queued``."""

    prompt_id: str
    text: str
    seq: int
    source: str
    principal: str


class Accepted(Struct, frozen=True, gc=False):
    """A prompt or steering that came with an idempotency key; ``seq`` is its event's."""

    key: str
    prompt_id: str
    digest: str
    seq: int


class Steering(Struct, frozen=True, gc=False):
    """Something said to the run that its model has not been told yet."""

    steering_id: str
    text: str


class DraftBlock(Struct, frozen=True, gc=False):
    """A content block while it streams; ``kind`` is text, thinking or tool_input."""

    kind: str
    index: int
    text: str
    tool_call_id: str = ""
    tool_name: str = ""


class OpenTool(Struct, frozen=True):
    """A tool that was started and has no result yet."""

    tool_call_id: str
    tool_name: str


class Run(Struct, frozen=True, gc=False):
    """The run in progress; ``turn`` is 0 before its first turn."""

    prompt_id: str
    source: str
    principal: str
    started_at: int
    started_seq: int
    prompt_seq: int
    turn: int = 0
    turn_open: bool = False


class SessionState(Struct, frozen=True):
    """A session after ``version`` events of its stream.

    ``first_seq`` is the event that began this incarnation of the key: history starts there.
    ``draft_at`` is None unless an assistant's message streams.
    """

    key: str
    version: int = 0
    exists: bool = False
    session_id: str = ""
    name: str = ""
    first_seq: int = 0
    created_at: int = 0
    last_active_at: int = 0
    message_count: int = 0
    preview: str | None = None
    model: ModelRef | None = None
    thinking_level: str = ""
    context_seq: int = 0
    summary: str = ""
    queue: tuple[QueuedPrompt, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    run: Run | None = None
    steering: tuple[Steering, ...] = ()
    draft_at: int | None = None
    draft: tuple[DraftBlock, ...] = ()
    tools: tuple[OpenTool, ...] = ()
    usage: Usage = Usage()

    @property
    def processing(self) -> bool:
        """Tell whether a prompt is being processed."""
        return self.run is not None

    @property
    def idle(self) -> bool:
        """Tell whether there is nothing to carry on with."""
        return self.run is None and not self.queue

    def without_draft(self) -> "SessionState":
        """Return the state without the text of the message that streams."""
        return replace(self, draft=()) if self.draft else self
