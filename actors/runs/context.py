"""What a model is told: the newest messages that fit its window. Pure."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct
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
MESSAGE_TOKENS = 4
ANSWER_SHARE = 0.25
"""The part of the window that is left free for the answer."""

LEFT_OUT = "[What was said before is left out here.]"
CUT_OUT = "\n[… {} characters are left out here …]\n"

NO_RESULT = "There is no result: the run ended before this tool was called."

_NO_RESULT_TOKENS = MESSAGE_TOKENS + len(NO_RESULT) // CHARACTERS_PER_TOKEN
_SAID = (Text, Thinking)  # a union would be made anew for each block of a long conversation


class Counted(Struct, frozen=True):
    """A message with its event's seq, and about how many tokens it takes."""

    seq: int
    message: Message
    tokens: int


def counted(seq: int, message: Message) -> Counted:
    """Return the message with its tokens, so that nobody has to count them again."""
    return Counted(seq, message, estimated_tokens(message))


def estimated_tokens(message: Message) -> int:
    """Return about how many tokens a message takes: a token for four characters."""
    tokens = MESSAGE_TOKENS
    for block in message.content:
        if isinstance(block, _SAID):
            tokens += len(block.text) // CHARACTERS_PER_TOKEN
        elif isinstance(block, Image):
            tokens += IMAGE_TOKENS
        else:
            tokens += len(msgspec.json.encode(block.arguments)) // CHARACTERS_PER_TOKEN + 8
    return tokens


def is_told(message: Message) -> bool:
    """Tell whether a model is told the message at all."""
    # Every message of a context is asked, here and below; an isinstance that says no is slow.
    return type(message) is not AssistantMessage or (
        bool(message.content) and message.stop_reason != "retried"
    )


def told_tokens(conversation: Iterable[Counted]) -> int:
    """Return about how many tokens those of the messages take that a model is told."""
    return sum([each.tokens for each in conversation if is_told(each.message)])


def build_context(
    newest_first: Iterable[Message],
    *,
    context_tokens: int,
    summary: str = "",
    tokens: int | None = None,
) -> list[Message]:
    """Return the messages for a model call, oldest first, as many as fit the window.

    Begins with a user's message or the summary, which stands for what came before; gives every
    tool call a result next to it; leaves out answers that broke off before they said anything,
    and those that were asked for again. The newest message is told always, and with tool results
    the call; where these alone are too long, the results are cut. ``tokens`` is what all that
    is told takes, where that was counted before.
    """
    budget = int(context_tokens * (1 - ANSWER_SHARE)) - len(summary) // CHARACTERS_PER_TOKEN
    if tokens is None or tokens > budget:
        newest, tokens = _newest(newest_first, budget)
    else:
        newest = [each for each in newest_first if is_told(each)][::-1]
    context = _with_results(newest)
    if summary:
        told = Text(f"Summary of the conversation so far:\n{summary}")
        return [UserMessage((told,), 0), *_cut_to_fit(context, budget, tokens)]
    first = next((at for at, each in enumerate(context) if isinstance(each, UserMessage)), None)
    if first is None:
        return [UserMessage((Text(LEFT_OUT),), 0), *_cut_to_fit(context, budget, tokens)]
    return _cut_to_fit(context[first:], budget, tokens)


def shortened(text: str, characters_max: int) -> str:
    """Return a text with its middle left out where it is too long."""
    if len(text) <= characters_max:
        return text
    head = characters_max * 3 // 4
    tail = characters_max - head
    return text[:head] + CUT_OUT.format(len(text) - characters_max) + text[len(text) - tail :]


def _newest(newest_first: Iterable[Message], budget: int) -> tuple[list[Message], int]:
    """Return the newest messages that fit, oldest first, and the tokens that they take.

    There is at least one that is no tool's.
    """
    kept: list[Message] = []
    taken = 0
    enough = False
    for message in filter(is_told, newest_first):
        tokens = estimated_tokens(message)
        if taken + tokens > budget and enough:
            break
        taken += tokens
        kept.append(message)
        enough = enough or not isinstance(message, ToolResultMessage)
    return kept[::-1], taken


def _with_results(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the result of every tool call right after it.

    It is the next one of its id: there are providers that use an id again in a later answer.
    """
    results: dict[str, ToolResultMessage] = {}
    backwards: list[Message] = []
    for message in reversed(messages):
        if type(message) is ToolResultMessage:
            results[message.tool_call_id] = message
            continue
        answers = []
        for block in message.content:
            if type(block) is ToolCall:
                result = results.pop(block.id, None)
                answers.append(result or _no_result(block, message.timestamp))
        backwards += reversed(answers)
        backwards.append(message)
    return backwards[::-1]


def _cut_to_fit(messages: list[Message], budget: int, tokens: int) -> list[Message]:
    """Return the messages with tool results cut where all together don't fit.

    ``tokens`` is what they took before each call had its result.
    """
    results = sum([type(each) is ToolResultMessage for each in messages])
    if not results or tokens + results * _NO_RESULT_TOKENS <= budget:
        return messages
    if sum(map(estimated_tokens, messages)) <= budget:
        return messages
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
