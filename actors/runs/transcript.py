"""The conversation as a run goes along: messages with their events' seqs, and a summary. Pure."""

from collections.abc import Iterable, Iterator, Sequence

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

    It was made at ``compacted_at``, in milliseconds.
    """

    def __init__(
        self, numbered: Sequence[Numbered], summary: str = "", compacted_at: int = 0
    ) -> None:
        self.numbered = list(numbered)
        self.summary = summary
        self.compacted_at = compacted_at

    @property
    def messages(self) -> list[Message]:
        """Return the messages."""
        return [message for _seq, message in self.numbered]

    def newest_first(self) -> Iterator[Message]:
        """Yield the messages, the newest first."""
        return (message for _seq, message in reversed(self.numbered))

    def extend(self, numbered: Iterable[Numbered]) -> None:
        """Add what was said."""
        self.numbered.extend(numbered)

    def compact(self, compaction: Compaction, at: int) -> None:
        """Put the summary in place of what it stands for."""
        self.summary = compaction.summary
        self.compacted_at = at
        self.numbered = [each for each in self.numbered if each[0] >= compaction.first_kept_seq]

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
