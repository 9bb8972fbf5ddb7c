"""Which events of a session say the same again, so that one is not erased without the others. Pure.

A prompt is in the queue and in its message; an answer is in its deltas and whole; a tool call is
in the answer, in its arguments as they streamed, in what was asked about it, where it began and
where it ended. A summary quotes all that it stands for.
"""

from msgspec import Struct

from actors.session import events as e
from actors.session.decide_erasure import merged
from actors.session.messages import AssistantMessage, ToolCall, ToolResultMessage, UserMessage

Range = tuple[int, int]

USER = "user"
ASSISTANT = "assistant"

_OF_CALL = (
    e.ToolStarted,
    e.ToolProgressed,
    e.ToolCompleted,
    e.ApprovalRequested,
    e.ApprovalResolved,
)


class Said(Struct, frozen=True):
    """A message of the conversation; ``at`` is its own time in ms, ``prompt_id`` its run's."""

    seq: int
    role: str
    at: int
    prompt_id: str


class Part(Struct, frozen=True):
    """What is erased together with a range of events."""

    ranges: tuple[Range, ...]
    said: tuple[Said, ...]
    renamed: bool
    compacted: bool


class Copies:
    """Follows a session's events from the first one on."""

    def __init__(self) -> None:
        self._groups: dict[str, list[int]] = {}
        self._group_of: dict[int, str] = {}
        self._said: dict[int, Said] = {}
        self._compactions: list[Range] = []
        self._renamed_seq = 0
        self._prompt_id = ""
        self._expected = ""
        self._open = ""
        self._calls: dict[str, str] = {}

    def follow(self, seq: int, event: e.Event) -> None:
        """Take one event into account."""
        group = self._group(seq, event)
        if group:
            self._group_of[seq] = group
            self._groups.setdefault(group, []).append(seq)

    def part(self, wanted: Range) -> Part:
        """Return what has to go with a range of events."""
        seqs = set(range(wanted[0], wanted[1] + 1))
        for seq in range(wanted[0], wanted[1] + 1):
            seqs.update(self._groups.get(self._group_of.get(seq, ""), ()))
        first = min(seqs)
        quoting = [seq for seq, first_kept in self._compactions if seq > first < first_kept]
        seqs.update(quoting)
        return Part(
            merged(tuple([(seq, seq) for seq in seqs])),
            tuple([each for seq, each in self._said.items() if seq in seqs]),
            self._renamed_seq in seqs,
            bool(self._compactions) and self._compactions[-1][0] in seqs,
        )

    def _group(self, seq: int, event: e.Event) -> str:
        """Return the name of what the event says, which others may say as well; "" for none."""
        match event:
            case e.PromptQueued():
                return f"prompt:{event.prompt_id}"
            case e.SteeringReceived():
                return f"steering:{event.steering_id}"
            case e.RunStarted():
                self._prompt_id = event.prompt_id
                self._expected = f"prompt:{event.prompt_id}"
            case e.SteeringDelivered():
                self._expected = f"steering:{event.steering_id}"
            case e.MessageStarted() if event.role == ASSISTANT:
                self._open = f"message:{seq}"
            case e.TextDelta() | e.ThinkingDelta() | e.ToolInputDelta():
                return self._open
            case e.MessageCompleted():
                return self._message(seq, event)
            case e.SessionRenamed():
                self._renamed_seq = seq
            case e.ContextCompacted():
                self._compactions.append((seq, event.first_kept_seq))
            case _:
                return self._of_call(seq, event)
        return ""

    def _message(self, seq: int, event: e.MessageCompleted) -> str:
        message = event.message
        if isinstance(message, ToolResultMessage):
            self._note(seq, "", message.timestamp)
            return self._calls.get(message.tool_call_id, "")
        if isinstance(message, UserMessage):
            self._note(seq, USER, message.timestamp)
            group, self._expected = self._expected, ""
            return group
        self._note(seq, ASSISTANT, message.timestamp)
        group, self._open = self._open or f"message:{seq}", ""
        self._calls |= _calls_of(message, group)
        return group

    def _of_call(self, seq: int, event: e.Event) -> str:
        if not isinstance(event, _OF_CALL):
            return ""
        if isinstance(event, e.ToolCompleted):
            self._note(seq, "", event.at)
        return self._calls.get(event.tool_call_id, f"call:{event.tool_call_id}")

    def _note(self, seq: int, role: str, at: int) -> None:
        self._said[seq] = Said(seq, role, at, self._prompt_id)


def _calls_of(message: AssistantMessage, group: str) -> dict[str, str]:
    return {block.id: group for block in message.content if isinstance(block, ToolCall)}
