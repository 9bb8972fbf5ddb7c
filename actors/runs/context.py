"""What a model is told: the newest messages that fit its window. Pure."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from actors.session.messages import (
    AssistantMessage,
    Block,
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

LEFT_OUT = "[What was said before is left out here.]"
CUT_OUT = "\n[… {} characters are left out here …]\n"

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


def is_told(message: Message) -> bool:
    """Tell whether a model is told the message at all."""
    return not isinstance(message, AssistantMessage) or (
        bool(message.content) and message.stop_reason != "retried"
    )


def build_context(
    newest_first: Iterable[Message], *, context_tokens: int, summary: str = ""
) -> list[Message]:
    """Return the messages for a model call, oldest first, as many as fit the window.

    Begins with a user's message or the summary, which stands for what came before; gives every
    tool call a result next to it; leaves out answers that broke off before they said anything,
    and those that were asked for again. The newest message is told always, and with tool results
    the call; where these alone are too long, the results are cut.
    """
    budget = int(context_tokens * (1 - ANSWER_SHARE)) - len(summary) // CHARACTERS_PER_TOKEN
    context = _with_results(_newest(newest_first, budget))
    if summary:
        told = Text(f"Summary of the conversation so far:\n{summary}")
        return [UserMessage((told,), 0), *_cut_to_fit(context, budget)]
    first = next((at for at, each in enumerate(context) if isinstance(each, UserMessage)), None)
    if first is None:
        return [UserMessage((Text(LEFT_OUT),), 0), *_cut_to_fit(context, budget)]
    return _cut_to_fit(context[first:], budget)


def shortened(text: str, characters_max: int) -> str:
    """Return a text with its middle left out where it is too long."""
    if len(text) <= characters_max:
        return text
    head = characters_max * 3 // 4
    tail = characters_max - head
    return text[:head] + CUT_OUT.format(len(text) - characters_max) + text[len(text) - tail :]


def _newest(newest_first: Iterable[Message], budget: int) -> list[Message]:
    """Return the newest messages that fit, oldest first; at least one that is no tool's."""
    kept: list[Message] = []
    enough = False
    for message in filter(is_told, newest_first):
        budget -= estimated_tokens(message)
        if budget < 0 and enough:
            break
        kept.append(message)
        enough = enough or not isinstance(message, ToolResultMessage)
    return kept[::-1]


def _with_results(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the result of every tool call right after it.

    It is the next one of its id: there are providers that use an id again in a later answer.
    """
    results: dict[str, ToolResultMessage] = {}
    backwards: list[Message] = []
    for message in reversed(messages):
        if isinstance(message, ToolResultMessage):
            results[message.tool_call_id] = message
            continue
        calls = [block for block in message.content if isinstance(block, ToolCall)]
        answers = [
            results.pop(call.id) if call.id in results else _no_result(call, message.timestamp)
            for call in calls
        ]
        backwards += [*reversed(answers), message]
    return backwards[::-1]


def _cut_to_fit(messages: Sequence[Message], budget: int) -> list[Message]:
    """Return the messages with tool results cut where all together don't fit."""
    results = sum(isinstance(each, ToolResultMessage) for each in messages)
    if not results or sum(map(estimated_tokens, messages)) <= budget:
        return list(messages)
    characters_max = max(0, budget) * CHARACTERS_PER_TOKEN // results
    return [
        replace(each, content=tuple(_cut(block, characters_max) for block in each.content))
        if isinstance(each, ToolResultMessage)
        else each
        for each in messages
    ]


def _cut(block: Block, characters_max: int) -> Block:
    return Text(shortened(block.text, characters_max)) if isinstance(block, Text) else block


def _no_result(call: ToolCall, at: int) -> ToolResultMessage:
    return ToolResultMessage(call.id, call.name, (Text(NO_RESULT),), at, is_error=True)
