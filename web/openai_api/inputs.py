"""What clients of OpenAI's API send; what is not named here is left aside."""

from typing import Annotated, Any

from msgspec import Meta

from web.inputs import IdempotencyHeaders
from web.openai_api.errors import Refused
from web.operations import Refusable

ANY_MODEL = "sessiond"
"""The model's name that leaves the session's own as it is."""

Messages = Annotated[list[dict[str, Any]], Meta(min_length=1)]

UNSUPPORTED = "unsupported_value"


class OpenAIHeaders(
    IdempotencyHeaders,
    frozen=True,
    rename={
        "key": "Idempotency-Key",
        "session_key": "X-Session-Key",
        "chat_id": "X-OpenWebUI-Chat-Id",
        "task": "X-OpenWebUI-Task",
    },
):
    """Which session is meant, and what makes a repeat of the request the same prompt.

    ``task`` is what a client does for itself with a chat, as a title; empty for the chat itself.
    """

    session_key: str = ""
    chat_id: str = ""
    task: str = ""


class StreamOptions(Refusable, frozen=True):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None


class CompletionBody(Refusable, frozen=True):
    """A conversation whose last message is the prompt."""

    messages: Messages
    model: str = ANY_MODEL
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: int | None = None
    tool_choice: Any = None
    response_format: Any = None
    modalities: Any = None
    logprobs: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what would be answered otherwise than asked."""
        _refuse(self.n not in (None, 1), "n", "There is one answer to a prompt: leave n out.")
        _refuse_forced_tool(self.tool_choice)
        _refuse_format(self.response_format, "response_format")
        _refuse(
            isinstance(self.modalities, list) and "audio" in self.modalities,
            "modalities",
            "Answers are text: leave modalities out.",
        )
        _refuse(bool(self.logprobs), "logprobs", "There are no logprobs here: leave them out.")


class ResponseBody(Refusable, frozen=True):
    """A prompt, or items that end with one."""

    input: str | Messages
    model: str = ANY_MODEL
    stream: bool | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    tool_choice: Any = None
    text: dict[str, Any] | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None

    def __post_init__(self) -> None:
        """Refuse what would be answered otherwise than asked."""
        _refuse_forced_tool(self.tool_choice)
        _refuse_format((self.text or {}).get("format"), "text.format")
        _refuse(
            bool(self.background),
            "background",
            "Leave background out: a run goes on when its client leaves in any case.",
        )
        _refuse(
            self.conversation is not None,
            "conversation",
            "Name the session by X-Session-Key or previous_response_id, not by conversation.",
        )
        _refuse(
            self.prompt is not None,
            "prompt",
            "There are no prompts stored here: send it as instructions and input.",
        )

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Return the items as messages."""
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        return self.input


def _refuse(condition: bool, param: str, text: str) -> None:  # noqa: FBT001 - the condition comes first
    if condition:
        raise Refused(400, text, param, UNSUPPORTED)


def _refuse_forced_tool(choice: object) -> None:
    _refuse(
        choice not in (None, "none", "auto"),
        "tool_choice",
        "The model calls the gateway's tools, never the client's: leave tool_choice out.",
    )


def _refuse_format(wanted: object, param: str) -> None:
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    _refuse(kind not in (None, "text"), param, "Answers are text: leave the format out.")
