"""The conversation as a run goes along: each message counted once, and a summary. Pure."""

from collections.abc import Iterable, Iterator

from actors.runs.context import Counted, counted, told_tokens
from actors.runs.link import Numbered
from actors.session.commands import Compaction
from actors.session.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)


class Transcript:
    """What a model is told from, oldest first; ``summary`` stands for what came before.

    It was made at ``compacted_at``, in milliseconds. ``tokens`` is what the messages take that a
    model is told, the summary not among them.
    """

    def __init__(
        self, conversation: Iterable[Counted], summary: str = "", compacted_at: int = 0
    ) -> None:
        self.conversation = list(conversation)
        self.tokens = told_tokens(self.conversation)
        self.summary = summary
        self.compacted_at = compacted_at

    def newest_first(self) -> Iterator[Message]:
        """Yield the messages, the newest first."""
        return (each.message for each in reversed(self.conversation))

    def extend(self, numbered: Iterable[Numbered]) -> None:
        """Add what was said."""
        said = [counted(seq, message) for seq, message in numbered]
        self.conversation.extend(said)
        self.tokens += told_tokens(said)

    def compact(self, compaction: Compaction, at: int) -> None:
        """Put the summary in place of what it stands for."""
        self.summary = compaction.summary
        self.compacted_at = at
        first = compaction.first_kept_seq
        self.conversation = [each for each in self.conversation if each.seq >= first]
        self.tokens = told_tokens(self.conversation)

    @property
    def last_answer(self) -> AssistantMessage:
        """Return the model's newest message; there is one."""
        return next(each for each in self.newest_first() if isinstance(each, AssistantMessage))

    def unanswered(self) -> list[ToolCall]:
        """Return the newest answer's tool calls without results; none once a user spoke again."""
        answered: set[str] = set()
        for message in self.newest_first():
            if isinstance(message, UserMessage):
                return []
            if isinstance(message, ToolResultMessage):
                answered.add(message.tool_call_id)
            else:
                return [
                    block
                    for block in message.content
                    if isinstance(block, ToolCall) and block.id not in answered
                ]
        return []
