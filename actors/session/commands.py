"""What can be asked of a session, in the imperative. Pure.

Ids and times come in with the command: ``at`` is in milliseconds since the epoch, UTC.
"""

from typing import Any

from msgspec import Struct

from actors.session.events import (
    ContextCompacted,
    MessageCompleted,
    ModelSelected,
    Request,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from actors.session.messages import AssistantMessage, Block, Image, Message, Usage
from actors.session.record_events import PastErasure
from actors.session.state import ModelRef

Delta = TextDelta | ThinkingDelta | ToolInputDelta
Recorded = MessageCompleted | ModelSelected | ContextCompacted


GATEWAY = "gateway"
"""The principal of what this program does by itself."""


class _Asked(Struct, frozen=True, kw_only=True, tag=True):
    principal: str = GATEWAY
    request: Request | None = None


class Command(_Asked, frozen=True):
    """Base of all commands; ``principal`` is who gave it, by ``request`` where it was one."""

    at: int


class CreateSession(Command, frozen=True):
    """Make the session exist; one that does stays as it is."""

    session_id: str


class QueuePrompt(Command, frozen=True):
    """Accept a prompt, creating the session where it is missing.

    ``session_id`` is for a session that has to be created. Rejected with QueueFull when
    ``queue_max`` prompts wait besides the running one, with KeyReused when the idempotency key
    came with another text before; with the same text nothing happens.
    """

    session_id: str
    prompt_id: str
    text: str
    source: str
    queue_max: int
    message_id: str = ""
    idempotency_key: str = ""
    metadata: Any = None
    images: tuple[Image, ...] = ()


class Steer(QueuePrompt, frozen=True):
    """Say more to the run in progress; without one it is a prompt like any other."""


class RenameSession(Command, frozen=True):
    """Give the session a name."""

    name: str


class ResetSession(Command, frozen=True):
    """Begin the conversation anew; what runs is aborted, what waits cancelled."""

    session_id: str


class ReloadSession(Command, frozen=True):
    """Read the settings again."""


class DeleteSession(Command, frozen=True):
    """End the session; what runs is aborted, what waits cancelled."""


class SelectModel(Command, frozen=True):
    """Send the session's next model calls to this model, to think as much as this.

    A ``thinking_level`` of None keeps the session's. With ``keep`` a model that the session has
    chosen stays, and this one is for a session that has chosen none.
    """

    provider: str
    model_id: str
    thinking_level: str | None = None
    keep: bool = False


class AbortRun(Command, frozen=True):
    """End the running prompt; with ``queue`` the waiting ones too."""

    queue: bool = False


class ResolveApproval(Command, frozen=True):
    """Approve or deny a tool call that waits; the same answer again changes nothing.

    Rejected with ApprovalNotFound when nothing of that id waits, with ApprovalAnswered after
    another answer.
    """

    approval_id: str
    approved: bool
    reason: str = ""


class ExpireApprovals(Command, frozen=True):
    """Deny what has waited too long."""


class Compaction(Struct, frozen=True):
    """A summary for what a model was told before ``first_kept_seq``; see ContextCompacted."""

    summary: str
    first_kept_seq: int
    reason: str
    tokens_before: int
    usage: Usage = Usage()


class CompactContext(Command, frozen=True):
    """Tell models the summary from the next run on.

    Rejected with ContextChanged when the context is not the one that was summarised, which began
    at ``context_seq``.
    """

    compaction: Compaction
    context_seq: int


class InterruptRun(Command, frozen=True):
    """Close the run because the process that works on it has ended or has to."""

    reason: str


class ContinueRun(InterruptRun, frozen=True):
    """Go on with the run of a process that has ended; after CONTINUES_MAX times it is closed."""


class ImportSession(Command, frozen=True):
    """Take over what was recorded elsewhere. Rejected with SessionExists when not empty.

    ``first_kept_seq`` of a recorded compaction counts from the first recorded event, 1.
    """

    session_id: str
    source: str
    original_id: str
    recorded: tuple[Recorded, ...]


class BeginFrom(Command, frozen=True):
    """Begin with messages that a client has. Rejected with SessionExists when not empty."""

    session_id: str
    source: str
    messages: tuple[Message, ...]


class ForkSource(Struct, frozen=True):
    """Where a session was when another one was made of it; ``hash`` is that event's, in hex."""

    key: str
    session_id: str
    seq: int
    hash: str


class ForkSession(Command, frozen=True):
    """Begin the session with what was said in another. Rejected with KeyTaken where it exists.

    ``summary`` is what a model is told for the first ``summarised`` of the messages.
    """

    session_id: str
    source: ForkSource
    messages: tuple[Message, ...]
    name: str = ""
    model: ModelRef | None = None
    thinking_level: str = ""
    summary: str = ""
    summarised: int = 0


class NoteBranch(Command, frozen=True):
    """Record that another session was made of this one, as it was at ``seq``."""

    into_key: str
    into_session_id: str
    seq: int


class HoldSession(Command, frozen=True):
    """Have nothing of the session erased, for this reason, until it is released."""

    reason: str


class ReleaseSession(Command, frozen=True):
    """Let what may be erased be erased again."""


class EraseSession(Command, frozen=True):
    """Erase all that the session's stream holds; the session ends before. Rejected with OnHold.

    With ``session_id`` the key means an empty session at once. ``earlier`` are the erasures that
    the stream tells of. A session that was erased and not used since stays as it is.
    """

    receipt_id: str
    reason: str
    earlier: tuple[PastErasure, ...] = ()
    session_id: str = ""


class Left(Struct, frozen=True):
    """What is left of a session after a part of it is erased, by what its log holds.

    ``messages`` is how many fewer there are. ``summarised`` tells whether its summary is left.
    """

    preview: str | None
    messages: int
    named: bool
    summarised: bool


class ErasePart(Command, frozen=True):
    """Erase the events of these ranges, and what the state has of them.

    Rejected with OnHold, with SessionBusy where something runs or waits, with SessionMoved when
    the session is not at this ``version``.
    """

    receipt_id: str
    reason: str
    ranges: tuple[tuple[int, int], ...]
    left: Left
    version: int
    earlier: tuple[PastErasure, ...] = ()


class RunCommand(Command, frozen=True):
    """Base of what a run's worker reports; a report of a run that is over changes nothing.

    Its events are recorded as asked for by whoever asked for the run.
    """

    prompt_id: str


class StartMessage(RunCommand, frozen=True):
    """The model begins to answer; ``deltas`` is what has arrived of it already."""

    deltas: tuple[Delta, ...]


class RecordDeltas(RunCommand, frozen=True):
    """The model said more."""

    deltas: tuple[Delta, ...]


class CompleteMessage(RunCommand, frozen=True):
    """The model's answer is whole. Without tool calls in it the run is complete."""

    deltas: tuple[Delta, ...]
    message: AssistantMessage


class StartTool(RunCommand, frozen=True):
    """A tool is about to run."""

    tool_call_id: str
    tool_name: str
    arguments: Any


class CompleteTool(RunCommand, frozen=True):
    """A tool has its result."""

    tool_call_id: str
    tool_name: str
    outcome: str
    content: tuple[Block, ...]
    details: Any = None


class NextTurn(RunCommand, frozen=True):
    """All tools of the turn are through: the model is called again."""

    message: AssistantMessage


class RetryTurn(RunCommand, frozen=True):
    """The model call failed and will be made again, as this attempt."""

    attempt: int
    error: str
    delay_ms: int
    deltas: tuple[Delta, ...] = ()


class CompactRunContext(RunCommand, frozen=True):
    """The run's next model calls are told the summary."""

    compaction: Compaction


class ProgressTool(RunCommand, frozen=True):
    """A tool that runs has more to show."""

    tool_call_id: str
    tool_name: str
    text: str


class ToolRequest(Struct, frozen=True):
    """A tool call that needs an approval, and why."""

    approval_id: str
    tool_call_id: str
    tool_name: str
    arguments: Any
    reason: str


class RequestApprovals(RunCommand, frozen=True):
    """These calls wait for approval, and the run with them; its worker ends.

    Where somebody's steering comes first they are skipped instead.
    """

    requests: tuple[ToolRequest, ...]
    expires_at: int


class FailRun(RunCommand, frozen=True):
    """The run can't go on."""

    error: str
    deltas: tuple[Delta, ...] = ()
