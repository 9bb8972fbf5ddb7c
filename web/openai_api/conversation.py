"""A client's messages as a conversation: what came before, and the prompt. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from actors.session.messages import (
    AssistantMessage,
    Image,
    Message,
    Text,
    UserMessage,
    prompt_content,
    text_of,
)
from web.images import images_of
from web.inputs import ChatPrompt
from web.openai_api.errors import Refused

MESSAGES_MAX = 4_000
INSTRUCTIONS = ("system", "developer")
BROKEN_OFF = ("error", "aborted", "interrupted", "retried")
TEXT_PARTS = ("text", "input_text", "output_text")
IMAGE_PARTS = ("image_url", "input_image")
TASKS = (
    "### Task:",
    "Provide a concise, 5-word-or-less title for the conversation",
)
"""How the prompts begin that Open WebUI and LibreChat make of a chat, for titles and the like."""
TOLD = "Instructions of the client:\n\n"
"""How a session's first message begins that holds its client's system messages."""


class Conversation(Struct, frozen=True):
    """What a client sent: ``earlier`` is what was said before ``prompt``, the oldest first."""

    instructions: str
    earlier: tuple[UserMessage | AssistantMessage, ...]
    prompt: ChatPrompt

    @property
    def is_task(self) -> bool:
        """Whether it reads like a client's task about a chat, and not like the chat."""
        return not self.earlier and self.prompt.text.startswith(TASKS)

    def beginning(self, at: int) -> tuple[Message, ...]:
        """Return what an empty session begins with, at a time in milliseconds."""
        if not self.instructions:
            return self.earlier
        return (UserMessage((Text(TOLD + self.instructions),), at), *self.earlier)


def conversation_of(
    messages: Sequence[dict[str, Any]], at: int, instructions: str | None = None
) -> Conversation:
    """Return the conversation; ``at`` is the time of its messages, in milliseconds.

    Messages of tools, and calls of them, are left out. Raises Refused, or Problem 422 for
    pictures.
    """
    if len(messages) > MESSAGES_MAX:
        raise Refused(422, f"A conversation has {MESSAGES_MAX} messages at most.", "messages")
    told = [instructions] if instructions else []
    said: list[UserMessage | AssistantMessage] = []
    for index, message in enumerate(messages):
        role, param = message.get("role"), f"messages[{index}]"
        if message.get("type") == "item_reference":
            raise Refused(400, "No item is stored here: send it whole, with store: false.", param)
        text, images = _content(message.get("content"), param)
        if role in INSTRUCTIONS:
            told.append(text)
        elif role == "user":
            said.append(UserMessage(prompt_content(text, images), at))
        elif role == "assistant" and text.strip():
            said.append(AssistantMessage((Text(text),), at))
    spoken = [each for each in messages if each.get("role") not in INSTRUCTIONS]
    if not spoken or spoken[-1].get("role") != "user":
        raise Refused(400, "The last message must be the user's: it is the prompt.", "messages")
    text, images = _content(spoken[-1].get("content"), "messages")
    if not text.strip() and not images:
        raise Refused(400, "The last message has no text: it is the prompt.", "messages")
    return Conversation("\n\n".join(told), tuple(said[:-1]), ChatPrompt(text, images=images))


def goes_on(newest: Sequence[Message], earlier: Sequence[Message], *, running: bool) -> bool:
    """Tell whether a session with these newest messages is where a client thinks that it is.

    That is where its last question is the client's, and one of the answers to it is the client's,
    or a part of it, or the other way round: clients ask more than they show, cut what they
    stopped, and are told the texts of several turns as one. What has no answer yet fits any as
    long as it is ``running``.
    """
    asked, shown = _last_exchange(earlier)
    known, said = _last_exchange(newest)
    if asked is None or known is None or asked not in known:
        return False
    answer = "".join(shown)
    if not answer or (running and not said):
        return True
    return any(each in answer or answer in each for each in said)


def _last_exchange(messages: Iterable[Message]) -> tuple[str | None, list[str]]:
    """Return the last thing that was asked, and what was answered to it."""
    asked: str | None = None
    answers: list[str] = []
    for message in messages:
        if isinstance(message, UserMessage):
            asked, answers = _squeezed(text_of(message.content)), []
        elif isinstance(message, AssistantMessage):
            text = _squeezed(text_of(message.content))
            if text or message.stop_reason not in BROKEN_OFF:
                answers.append(text)
    return asked, answers


def _squeezed(text: str) -> str:
    """Return a text without what clients change of it: spaces."""
    return "".join(text.split())


def _content(content: object, param: str) -> tuple[str, tuple[Image, ...]]:
    """Return a message's text and pictures."""
    if content is None or isinstance(content, str):
        return _checked(content or "", param), ()
    if not isinstance(content, list):
        raise Refused(400, "A message's content is text, or a list of parts.", param)
    texts: list[str] = []
    urls: list[object] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "refusal":
            texts.append(str(part.get("refusal")))
        elif kind in IMAGE_PARTS:
            found = part.get("image_url")
            urls.append(found.get("url") if isinstance(found, dict) else found)
        else:
            raise Refused(400, f"A part is text or a picture, not {kind}.", param)
    return _checked("\n".join(texts), param), images_of(urls)


def _checked(text: str, param: str) -> str:
    if "\x00" in text:
        raise Refused(422, "A message can't hold the character U+0000.", param)
    return text
