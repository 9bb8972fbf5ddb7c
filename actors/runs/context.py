"""What a model is told: the newest messages that fit its window. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from actors.session.messages import (
    AssistantMessage,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)

CHARACTERS_PER_TOKEN = 4
IMAGE_TOKENS = 1_500
ANSWER_SHARE = 0.25
"""The part of the window that is left free for the answer."""

NO_RESULT = "There is no result: the run ended before this tool was called."


def estimated_tokens(message: Message) -> int:
    """Return about how many tokens a message takes: a token for four characters."""
    tokens = 4
    for block in message.content:
        if isinstance(block, Text | Thinking):
            tokens += len(block.text) // CHARACTERS_PER_TOKEN
        elif isinstance(block, Image):
            tokens += IMAGE_TOKENS
        else:
            tokens += len(msgspec.json.encode(block.arguments)) // CHARACTERS_PER_TOKEN + 8
    return tokens


def build_context(
    newest_first: Iterable[Message], *, context_tokens: int, summary: str = ""
) -> list[Message]:
    """Return the messages for a model call, oldest first, as many as fit the window.

    Begins with a user's message, gives every tool call a result next to it, and leaves out
    answers that broke off before they said anything. ``summary`` stands for what came before.
    """
    left = int(context_tokens * (1 - ANSWER_SHARE)) - len(summary) // CHARACTERS_PER_TOKEN
    kept: list[Message] = []
    for message in newest_first:
        left -= estimated_tokens(message)
        if left < 0 and kept:
            break
        kept.append(message)
    kept.reverse()
    first = next((i for i, message in enumerate(kept) if isinstance(message, UserMessage)), 0)
    context = _with_results(kept[first:])
    if summary:
        told = Text(f"Summary of the conversation so far:\n{summary}")
        context.insert(0, UserMessage((told,), 0))
    return context


def _with_results(messages: Sequence[Message]) -> list[Message]:
    results = {
        message.tool_call_id: message
        for message in messages
        if isinstance(message, ToolResultMessage)
    }
    context: list[Message] = []
    for message in messages:
        if isinstance(message, UserMessage):
            context.append(message)
        elif isinstance(message, AssistantMessage) and message.content:
            context.append(message)
            context.extend(
                results.get(block.id) or _no_result(block, message.timestamp)
                for block in message.content
                if isinstance(block, ToolCall)
            )
    return context


def _no_result(call: ToolCall, at: int) -> ToolResultMessage:
    return ToolResultMessage(call.id, call.name, (Text(NO_RESULT),), at, is_error=True)
