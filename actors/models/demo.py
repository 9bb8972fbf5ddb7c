"""The built-in model: no network, it streams the prompt's words back.

A line of the prompt that begins with an exclamation mark steers it: ``!name {json}`` asks for the
tool ``name``, ``!think text`` emits thinking, ``!fail text`` fails with that text.
"""

import contextlib
import itertools
import json
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from actors.models.base import Finished, ModelError, ModelRequest, Part, new_call_id
from actors.runs.context import CHARACTERS_PER_TOKEN, estimated_tokens
from actors.session.events import TextDelta, ThinkingDelta, ToolInputDelta
from actors.session.messages import (
    AssistantMessage,
    Block,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    text_of,
)

PROVIDER = "demo"
MODEL_ID = "echo"
NAME = "Echo (demo)"
CONTEXT_TOKENS = 8_192

_DIRECTIVE = re.compile(r"!([A-Za-z_][\w.-]*)(?:\s+(.*))?$")


class DemoModel:
    """Answers a prompt with its own words, ``delay_ms`` apart. Implements Model.

    ``deltas`` is how many words the answer has, the prompt's over and over; 0 means as many as
    the prompt. A request's ``max_output_tokens`` is how many words it has at most.
    """

    provider = PROVIDER
    model_id = MODEL_ID
    address = ""
    remembers = False

    def __init__(
        self, *, deltas: int = 0, delay_ms: int = 0, context_tokens: int | None = None
    ) -> None:
        self.context_tokens = context_tokens or CONTEXT_TOKENS
        self._deltas = deltas
        self._delay_s = delay_ms / 1000

    @contextlib.contextmanager
    def stream(self, request: ModelRequest) -> Iterator["_DemoStream"]:
        """See Model.stream."""
        stream = _DemoStream(request, self._deltas, self._delay_s)
        try:
            yield stream
        finally:
            stream.close()


class _DemoStream:
    def __init__(self, request: ModelRequest, deltas: int, delay_s: float) -> None:
        self._request = request
        self._deltas = deltas
        self._delay_s = delay_s
        self._closed = threading.Event()
        self._index = itertools.count()
        self._content: list[Block] = []
        self._cut = False

    def close(self) -> None:
        self._closed.set()

    def __iter__(self) -> Iterator[Part]:
        last = self._request.messages[-1]
        if isinstance(last, ToolResultMessage):
            yield from self._say(f"The tool {last.tool_name} answered: {text_of(last.content)}")
        elif isinstance(last, UserMessage):
            yield from self._answer(text_of(last.content))
        self._check()
        yield Finished(
            AssistantMessage(
                tuple(self._content), 0, PROVIDER, MODEL_ID, self._stop_reason(), self._usage()
            )
        )

    def _stop_reason(self) -> str:
        if any(isinstance(block, ToolCall) for block in self._content):
            return "tool_use"
        return "length" if self._cut else "stop"

    def _usage(self) -> Usage:
        told = sum(map(estimated_tokens, self._request.told))
        said = sum(len(getattr(block, "text", "")) for block in self._content)
        return Usage(
            told + len(self._request.system) // CHARACTERS_PER_TOKEN, said // CHARACTERS_PER_TOKEN
        )

    def _answer(self, prompt: str) -> Iterator[Part]:
        said: list[str] = []
        asked: list[tuple[str, Any]] = []
        for line in prompt.splitlines():
            directive = _DIRECTIVE.match(line)
            if directive is None:
                said.append(line)
                continue
            name, rest = directive[1], directive[2] or ""
            if name == "think":
                yield from self._think(rest)
            elif name == "fail":
                yield from self._say("\n".join(said))
                raise ModelError(rest or "The demo model was told to fail.")
            else:
                asked.append((name, _arguments(name, rest)))
        yield from self._say("\n".join(said))
        for name, arguments in asked:
            yield from self._ask(name, arguments)

    def _think(self, text: str) -> Iterator[Part]:
        index = next(self._index)
        for piece in self._paced(_words(text)):
            yield ThinkingDelta(index, piece)
        self._content.append(Thinking(text))

    def _say(self, text: str) -> Iterator[Part]:
        if not text.strip():
            return
        index = next(self._index)
        words = _words(text)
        if self._deltas:
            spaced = [*words[:-1], words[-1].rstrip() + " "]
            words = list(itertools.islice(itertools.cycle(spaced), self._deltas))
        limit = self._request.max_output_tokens
        if limit is not None and limit < len(words):
            self._cut = True
            words = words[:limit]
        for piece in self._paced(words):
            yield TextDelta(index, piece)
        self._content.append(Text("".join(words)))

    def _ask(self, name: str, arguments: Any) -> Iterator[Part]:  # noqa: ANN401 - any JSON value
        index = next(self._index)
        call_id = new_call_id(self._request, index)
        for piece in self._paced(_words(json.dumps(arguments, ensure_ascii=False))):
            yield ToolInputDelta(index, call_id, name, piece)
        self._content.append(ToolCall(call_id, name, arguments))

    def _paced(self, pieces: Iterable[str]) -> Iterator[str]:
        for piece in pieces:
            if self._delay_s:
                self._closed.wait(self._delay_s)
            self._check()
            yield piece

    def _check(self) -> None:
        if self._closed.is_set():
            raise ModelError("The call was closed.")


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*", text)


def _arguments(name: str, text: str) -> Any:  # noqa: ANN401 - any JSON value
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        raise ModelError(f"!{name} wants JSON after it: {error}") from error
