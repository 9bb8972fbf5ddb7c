"""What requests hold, with the contract's field names; whoever reads one knows that it is sound."""

import math
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from actors.models.base import THINKING_LEVELS
from actors.session.messages import Image
from web.errors import Problem
from web.images import images_of
from web.operations import SCOPES, Refusable

MISSING_TEXT = "Missing text"
MISSING_USER_MESSAGE = "Missing user message text"
NAME_CHARACTERS_MAX = 200
NAME_ERROR = f"A session's name is text of 1 to {NAME_CHARACTERS_MAX} characters."
MISSING_CONTENT = "Missing memory content"
CONTENT_CHARACTERS_MAX = 10_000
SEARCH_RESULTS = 4
SEARCH_RESULTS_MAX = 100
LIMIT_ERROR = "History limit must be a positive integer"
REGENERATE = "regenerate-message"
RESERVED_NAME = "environment"
"""What the token that the settings hold is called in the log."""

Count = Annotated[int, Meta(ge=1, le=10**18 - 1)]
Place = Annotated[
    str,
    Meta(
        pattern=r"^(?:.*:)?[0-9]{1,18}$",
        description="A place in a session's log: an event's seq, or a message's id.",
    ),
]
Images = Annotated[
    list[str] | None, Meta(description="Pictures as data URLs: PNG, JPEG, GIF or WebP.")
]
AnyText = Annotated[Any, Meta(extra_json_schema={"type": ["string", "null"]})]


class ChatPrompt(Struct, frozen=True):
    """What a request asks, with the client's ids of the message and of the request."""

    text: str
    message_id: str = ""
    idempotency_key: str = ""
    metadata: Any = None
    images: tuple[Image, ...] = ()


class Answered(Struct, frozen=True):
    """A client's answer to a request for approval."""

    approval_id: str
    approved: bool
    reason: str = ""


class MessagesBody(Refusable, frozen=True):
    """A prompt, with pictures as data URLs."""

    text: Annotated[str, Meta(min_length=1)]
    images: Images = None

    refusal = (400, MISSING_TEXT)

    def __post_init__(self) -> None:
        """Refuse a blank text."""
        _check_text(self.text, MISSING_TEXT)

    def found(self) -> ChatPrompt:
        """Return the prompt. Raises Problem 422 for pictures that can't be used."""
        return ChatPrompt(self.text, images=images_of(self.images or ()))


class ChatBody(Refusable, frozen=True):
    """A prompt: ``text``, else ``prompt``, else the last user's message in ``messages``."""

    text: AnyText = None
    prompt: AnyText = None
    messages: Annotated[
        Any, Meta(extra_json_schema={"type": ["array", "null"], "items": {"type": "object"}})
    ] = None
    trigger: AnyText = None
    metadata: Any = None
    images: Images = None

    def found(self) -> ChatPrompt:
        """Return the prompt. Raises Problem 400 without text, 422 for text that can't be kept."""
        images = images_of(self.images or ())
        for value in (self.text, self.prompt):
            if isinstance(value, str) and value.strip():
                return ChatPrompt(_check_text(value, MISSING_USER_MESSAGE), images=images)
        messages = self.messages if isinstance(self.messages, list) else []
        for message in reversed(messages):
            if isinstance(message, dict) and message.get("role") == "user":
                message_id = message.get("id")
                if not isinstance(message_id, str) or self.trigger == REGENERATE:
                    message_id = ""  # the same message is to be answered once more
                images += images_of(_image_urls(message))
                text = _check_text(_text_of(message), MISSING_USER_MESSAGE, images)
                return ChatPrompt(text, message_id, images=images)
        raise Problem(400, MISSING_USER_MESSAGE)

    def answers(self) -> list[Answered]:
        """Return the answers to requests for approval; none where this is a prompt."""
        last = self.messages[-1] if isinstance(self.messages, list) and self.messages else None
        if self.text or self.prompt or not isinstance(last, dict):
            return []
        if last.get("role") != "assistant" or not isinstance(last.get("parts"), list):
            return []
        answers = [_answer_in(part) for part in last["parts"] if isinstance(part, dict)]
        return [answer for answer in answers if answer is not None]


class WebhookBody(MessagesBody, frozen=True, rename="camel"):
    """A prompt from a program; ``metadata`` is kept with it and not told to the model."""

    session_key: AnyText = None
    sender: AnyText = None
    metadata: Any = None


class ApprovalBody(Refusable, frozen=True):
    """Whether a tool call may be made; the model is told the reason of a denial."""

    approved: bool
    reason: Annotated[str, Meta(max_length=1_000)] = ""

    refusal = (422, 'An approval is answered by {"approved": true} or false, and a reason.')

    def __post_init__(self) -> None:
        """Refuse a reason that can't be kept."""
        if "\x00" in self.reason:
            raise Problem(422, "A reason can't hold the character U+0000.")


class AbortBody(Refusable, frozen=True):
    """What to end besides the running prompt."""

    queue: Annotated[bool, Meta(description="Cancel the waiting prompts too.")] = False


class NameBody(Refusable, frozen=True):
    """A session's name; without one nothing changes."""

    name: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET

    refusal = (422, NAME_ERROR)

    def __post_init__(self) -> None:
        """Refuse a name that is blank, too long, or can't be kept."""
        if self.name is UNSET:
            return
        if not 0 < len(self.name.strip()) <= NAME_CHARACTERS_MAX:
            raise Problem(422, NAME_ERROR)
        if "\x00" in self.name:
            raise Problem(422, "A name can't hold the character U+0000.")


class ModelBody(Refusable, frozen=True, rename="camel"):
    """The model for a session's next calls; with ``thinking_level`` alone the model stays."""

    provider: AnyText = None
    model_id: AnyText = None
    thinking_level: (
        Annotated[str, Meta(extra_json_schema={"enum": THINKING_LEVELS})] | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        """Refuse a level that there isn't."""
        if self.thinking_level not in (UNSET, *THINKING_LEVELS):
            raise ValueError

    refusal = (422, f"thinkingLevel is one of {', '.join(THINKING_LEVELS)}.")


class ConfigPatch(Refusable, frozen=True):
    """Settings to change, in the shape in which they are shown; null undoes a change."""

    gateway: dict[str, Any] = msgspec.field(default_factory=dict)


class TokenBody(Refusable, frozen=True, rename="camel"):
    """A token to issue; ``key_prefix`` binds it to the sessions whose keys begin so."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    scopes: Annotated[list[str], Meta(min_length=1)]
    key_prefix: Annotated[str, Meta(max_length=200)] = ""

    def __post_init__(self) -> None:
        """Refuse what the patterns can't: a name that ends with a line, an unknown scope."""
        unknown = set(self.scopes) - set(SCOPES)
        if unknown or "\n" in self.name or self.name == RESERVED_NAME:
            raise Problem(
                422,
                f"A token has a name other than {RESERVED_NAME!r}, and scopes of "
                f"{', '.join(SCOPES)}.",
            )


class MemoryQuery(Refusable, frozen=True, rename="camel"):
    """Whose memory: a session's, by default the primary one's."""

    session_key: str = ""


class MemorySearchBody(Refusable, frozen=True, rename="camel"):
    """What to look for; without a query the newest."""

    query: AnyText = None
    limit: Annotated[Any, Meta(extra_json_schema={"type": ["number", "null"]})] = None
    session_key: AnyText = None

    @property
    def count(self) -> int:
        """Return how many results are wanted."""
        if isinstance(self.limit, bool) or not isinstance(self.limit, int | float):
            return SEARCH_RESULTS
        return max(1, min(int(self.limit), SEARCH_RESULTS_MAX))


class RememberBody(Refusable, frozen=True, rename="camel"):
    """What to remember; a kind or bucket that there isn't counts as not given."""

    content: Annotated[str, Meta(min_length=1)]
    bucket: AnyText = None
    kind: AnyText = None
    key: AnyText = None
    session_key: AnyText = None

    refusal = (400, MISSING_CONTENT)

    def __post_init__(self) -> None:
        """Refuse a blank content, and one that can't be kept."""
        if not self.content.strip():
            raise Problem(400, MISSING_CONTENT)
        if len(self.content) > CONTENT_CHARACTERS_MAX:
            raise Problem(422, f"A memory has at most {CONTENT_CHARACTERS_MAX} characters.")
        if "\x00" in self.content + (self.key if isinstance(self.key, str) else ""):
            raise Problem(422, "A memory can't hold the character U+0000.")


class ForgetBody(Refusable, frozen=True, rename="camel"):
    """Which memory to forget: by its id, or else by its key."""

    id: Annotated[Any, Meta(extra_json_schema={"type": ["number", "null"]})] = None
    key: AnyText = None
    session_key: AnyText = None

    def __post_init__(self) -> None:
        """Refuse what names no memory."""
        if self.memory_id is None and not (isinstance(self.key, str) and self.key.strip()):
            raise Problem(400, "Memory forget requires an id or key")

    @property
    def memory_id(self) -> int | None:
        """Return the id, rounded down; None where there is none."""
        if isinstance(self.id, bool) or not isinstance(self.id, int | float):
            return None
        return math.floor(self.id)


class RebuildBody(Refusable, frozen=True, rename="camel"):
    """Whose memory to rebuild."""

    session_key: AnyText = None


class SessionsQuery(Refusable, frozen=True):
    """Which sessions to list."""

    limit: Count | None = None
    cursor: Count | None = None
    prefix: str = ""
    active: bool | None = None


class HistoryQuery(Refusable, frozen=True):
    """Which messages to show: the newest ``limit`` of those between ``after`` and ``before``."""

    limit: Count | None = None
    before: Place | None = None
    after: Place | None = None

    refusal = (400, LIMIT_ERROR)


class EventsQuery(Refusable, frozen=True):
    """Where a stream begins; by default with what happens next."""

    after: Place | None = None


class WebhookQuery(Refusable, frozen=True):
    """Whether to wait for the answer."""

    wait: bool = True


class IdempotencyHeaders(Refusable, frozen=True, rename={"key": "Idempotency-Key"}):
    """The same key again means the same prompt."""

    key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None

    refusal = (400, "Idempotency-Key has 1 to 200 printable characters.")

    def __post_init__(self) -> None:
        """Refuse a key that is blank, or can't be printed."""
        if self.key is not None and not (self.key.strip() and self.key.isprintable()):
            raise ValueError


class ResumeHeaders(Refusable, frozen=True, rename={"last": "Last-Event-ID"}):
    """The id of the last event that the client has; it wins over ``after``."""

    last: Place | None = None


def seq_of(place: str | None) -> int | None:
    """Return a place in a session's log as a seq."""
    return None if place is None else int(place.rpartition(":")[2])


def _text_of(message: dict[str, Any]) -> str | None:
    parts = message.get("parts")
    if isinstance(parts, list):
        texts = [
            part["text"]
            for part in parts
            if isinstance(part, dict)
            and part.get("type") == "text"
            and isinstance(part.get("text"), str)
        ]
        if texts:
            return "\n".join(texts)
    content = message.get("content")
    return content if isinstance(content, str) else None


def _image_urls(message: dict[str, Any]) -> list[Any]:
    """Return the pictures among a message's parts, as the AI SDK's clients send files."""
    parts = message.get("parts")
    if not isinstance(parts, list):
        return []
    return [
        part.get("url") for part in parts if isinstance(part, dict) and part.get("type") == "file"
    ]


def _answer_in(part: dict[str, Any]) -> Answered | None:
    approval = part.get("approval")
    if part.get("state") != "approval-responded" or not isinstance(approval, dict):
        return None
    approval_id, approved = approval.get("id"), approval.get("approved")
    reason = approval.get("reason")
    if not isinstance(approval_id, str) or not isinstance(approved, bool):
        return None
    checked = ApprovalBody(approved, reason[:1_000] if isinstance(reason, str) else "")
    return Answered(approval_id, approved, checked.reason)


def _check_text(text: str | None, missing: str, images: tuple[Image, ...] = ()) -> str:
    if images and text is None:
        return ""
    if text is None or not (text.strip() or images):
        raise Problem(400, missing)
    if "\x00" in text:
        raise Problem(422, "A prompt can't hold the character U+0000.")
    return text
