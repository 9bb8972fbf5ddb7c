"""A session's state. Pure.

The state holds what decisions need, not the conversation: that stays in the log, so a session of
100,000 messages takes no more memory than one of ten.
"""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from actors.session.messages import Image, Usage

STATE_VERSION = 8
"""The shape of a stored state: raised whenever SessionState or evolve changes."""


class ModelRef(Struct, frozen=True, gc=False):
    """A model by its provider's name and its own."""

    provider: str
    model_id: str


class QueuedPrompt(Struct, frozen=True, gc=False):
    """A prompt that waits; ``seq`` is that of its ``prompt.queued``, its trace its request's."""

    prompt_id: str
    text: str
    seq: int
    source: str
    principal: str
    images: tuple[Image, ...] = ()
    trace: str = ""
    tracestate: str = ""


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
    images: tuple[Image, ...] = ()


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


class Approval(Struct, frozen=True):
    """A tool call that may not run before somebody approves; ``approved`` is None till then."""

    approval_id: str
    tool_call_id: str
    tool_name: str
    arguments: Any
    requested_at: int
    expires_at: int
    approved: bool | None = None
    reason: str = ""


class Run(Struct, frozen=True, gc=False):
    """The run in progress; ``turn`` is 0 before its first turn.

    ``waited_ms`` is how long it has waited for approvals, ``continued`` how often it went on in
    another process. ``trace`` and ``tracestate`` are those of the prompt's request.
    """

    prompt_id: str
    source: str
    principal: str
    started_at: int
    started_seq: int
    prompt_seq: int
    turn: int = 0
    turn_open: bool = False
    waited_ms: int = 0
    continued: int = 0
    trace: str = ""
    tracestate: str = ""


class SessionState(Struct, frozen=True):
    """A session after ``version`` events of its stream.

    ``first_seq`` is the event that began this incarnation of the key: history starts there.
    ``draft_at`` is None unless an assistant's message streams. ``workspace_id`` names the folder
    of its tools, the same after a reset. ``run_usage`` and ``turn_usage`` are the newest run's.
    ``hold`` is why nothing of the session may be erased; "" where it may.
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
    compacted_at: int = 0
    queue: tuple[QueuedPrompt, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    run: Run | None = None
    steering: tuple[Steering, ...] = ()
    draft_at: int | None = None
    draft: tuple[DraftBlock, ...] = ()
    tools: tuple[OpenTool, ...] = ()
    approvals: tuple[Approval, ...] = ()
    usage: Usage = Usage()
    run_usage: Usage = Usage()
    turn_usage: Usage = Usage()
    workspace_id: str = ""
    hold: str = ""

    @property
    def processing(self) -> bool:
        """Tell whether a prompt is being processed."""
        return self.run is not None

    @property
    def idle(self) -> bool:
        """Tell whether there is nothing to carry on with."""
        return self.run is None and not self.queue

    @property
    def pending(self) -> tuple[Approval, ...]:
        """Return the approvals that nobody has given or refused yet; the run waits for them."""
        return tuple([each for each in self.approvals if each.approved is None])

    @property
    def resumable(self) -> bool:
        """Tell whether the run can go on after its process: approvals are all that is open."""
        return bool(self.approvals) and not self.tools and self.draft_at is None

    def without_draft(self) -> "SessionState":
        """Return the state without the text of the message that streams."""
        return replace(self, draft=()) if self.draft else self
