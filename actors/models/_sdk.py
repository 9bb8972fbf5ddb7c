"""What the models over vendors' SDKs share: content as it grows, and content as it is told."""

import abc
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import replace

from actors.models.base import Finished, ModelError, ModelRequest, Part, Response
from actors.session.events import TextDelta, ThinkingDelta, ToolInputDelta
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    Usage,
)

CONNECT_TIMEOUT_S = 10.0

T = TypeVar("T")
B = TypeVar("B", bound="OpenBlock")


class Once(Generic[T]):
    """Makes a value on first use; any number of threads may ask for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def get(self) -> T:
        """Return the value. Blocks while another thread makes it."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


def well_formed(text: str) -> str:
    """Return the text with lone surrogates replaced: JSON may hold them, the log may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def trace_headers(request: ModelRequest) -> dict[str, str] | None:
    """Return the headers by which a provider's spans join the call's trace, where there is one."""
    if not request.traceparent:
        return None
    state = {"tracestate": request.tracestate} if request.tracestate else {}
    return {"traceparent": request.traceparent, **state}


def without_pictures(messages: Sequence[Message]) -> list[Message]:
    """Return the messages as they are told to a model that can't see: pictures become notes."""
    return [
        replace(each, content=tuple(map(_noted, each.content)))
        if any(isinstance(block, Image) for block in each.content)
        else each
        for each in messages
    ]


def _noted(block: Block) -> Block:
    if not isinstance(block, Image):
        return block
    return Text(f"[Here is a picture ({block.media_type}), which you can't see.]")


def fitting_id(call_id: str, pattern: re.Pattern[str]) -> str:
    """Return a call's id as a provider takes it: the id itself, or one that stands for it.

    Other providers' ids may be longer, or have more characters.
    """
    if pattern.fullmatch(call_id):
        return call_id
    return f"call_{sha256(call_id.encode()).hexdigest()[:32]}"


class OpenBlock(abc.ABC):
    """A content block that is being streamed; ``index`` is its place in the message."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._pieces: list[str] = []

    def add(self, text: str | None) -> Iterator[Part]:
        """Take more of the block and yield its delta; nothing yields nothing."""
        if text:
            piece = well_formed(text)
            self._pieces.append(piece)
            yield self._delta(piece)

    @abc.abstractmethod
    def whole(self) -> Block:
        """Return the block as it is now. Raises ModelError."""

    @abc.abstractmethod
    def _delta(self, text: str) -> Part: ...

    def _joined(self) -> str:
        return "".join(self._pieces)


class OpenText(OpenBlock):
    """Text that is being streamed."""

    def whole(self) -> Block:
        """See OpenBlock.whole."""
        return Text(self._joined())

    def _delta(self, text: str) -> Part:
        return TextDelta(self.index, text)


class OpenThinking(OpenBlock):
    """Thinking that is being streamed."""

    signature = ""

    def whole(self) -> Block:
        """See OpenBlock.whole."""
        return Thinking(self._joined(), self.signature)

    def _delta(self, text: str) -> Part:
        return ThinkingDelta(self.index, text)


class OpenToolCall(OpenBlock):
    """A tool call whose arguments are being streamed, as JSON text."""

    def __init__(self, index: int, call_id: str, name: str) -> None:
        super().__init__(index)
        self.call_id = well_formed(call_id)
        self.name = well_formed(name)

    def whole(self) -> Block:
        """See OpenBlock.whole; no text at all means no arguments."""
        text = self._joined()
        try:
            # Stricter than json.loads: what it takes, the log's encoder takes as well.
            arguments = msgspec.json.decode(text) if text.strip() else {}
        except msgspec.DecodeError as error:
            raise ModelError(
                f"The model asked for the tool {self.name!r} with arguments that are not valid "
                f"JSON: {error}"
            ) from error
        return ToolCall(self.call_id, self.name, arguments)

    def _delta(self, text: str) -> Part:
        return ToolInputDelta(self.index, self.call_id, self.name, text)


class Answer:
    """An assistant's message that is being streamed: its blocks in order of appearance."""

    def __init__(self, provider: str, model_id: str) -> None:
        self._provider = provider
        self._model_id = model_id
        self._blocks: list[OpenBlock] = []
        self.stop_reason = ""
        self.usage = Usage()
        self.response = Response()

    @property
    def next_index(self) -> int:
        """The index that the next block will have."""
        return len(self._blocks)

    def open(self, block: B) -> B:
        """Append a block, made with next_index, and return it."""
        self._blocks.append(block)
        return block

    def going_on(self, kind: type[B]) -> B:
        """Return the last block if it is of this kind, else a new one."""
        last = self._blocks[-1] if self._blocks else None
        return last if isinstance(last, kind) else self.open(kind(self.next_index))

    def finished(self) -> Finished:
        """Return the whole message. Raises ModelError."""
        content = tuple(block.whole() for block in self._blocks)
        stop_reason = self.stop_reason
        # Some servers say "stop" when what stopped them is a tool call.
        if stop_reason == "stop" and any(isinstance(block, ToolCall) for block in content):
            stop_reason = "tool_use"
        return Finished(
            AssistantMessage(content, 0, self._provider, self._model_id, stop_reason, self.usage),
            self.response,
        )
