"""One prompt's events as chunks of the AI SDK's UI message stream, version 1. Pure.

The message's id is the prompt's, so a stream that is resumed builds the same message.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from actors.session import events as e
from actors.session.messages import AssistantMessage, Text, Thinking, ToolCall, text_of
from actors.session.record_events import StreamErased
from web.outcome import ABORTED, ERASED
from web.sse import tool_result

HEADER = ("x-vercel-ai-ui-message-stream", "v1")
DONE = b"data: [DONE]\n\n"

GATEWAY_TOOL = {"dynamic": True, "providerExecuted": True}
"""The gateway runs the tools: without this the client would try to run them itself."""

FINISH_REASONS = {"length": "length", "content_filter": "content-filter"}
"""Every other reason to stop is ``stop`` to the client, which throws on names it doesn't know."""

NOT_RUN = "The run ended before this tool had a result."

Chunk = dict[str, Any]

_encode = msgspec.json.Encoder().encode


def encode_chunk(chunk: Chunk) -> bytes:
    """Return a chunk as a frame."""
    return b"data: %b\n\n" % _encode(chunk)


class UiMessageStream:
    """Translates the events of one prompt; ``done`` once its last chunk is out.

    Parts are opened before their first delta and closed before anything else begins: the
    clients throw on a delta without a start, and forget parts that are open at the step's end.
    With ``resumed`` the stream goes on in the middle of the run, after approvals were answered:
    the client has the calls already.
    """

    def __init__(self, prompt_id: str, *, resumed: bool = False) -> None:
        self.done = False
        self._prompt_id = prompt_id
        self._mine = False
        self._resumed = resumed
        self._calls_known = resumed
        self._asked: set[str] = set()
        self._open: tuple[str, str] | None = None
        self._streamed: dict[int, str] = {}
        self._inputs: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        self._finish_reason = "stop"

    def chunks(self, event: e.Event) -> Iterator[Chunk]:
        """Yield the chunks of an event; none for another prompt's."""
        if self.done:
            return
        if isinstance(event, StreamErased):  # what became of the prompt may be gone with it
            self.done = True
            yield {"type": "error", "errorText": ERASED}
            return
        if self._resumed:
            self._resumed, self._mine = False, True
            yield {"type": "start", "messageId": self._prompt_id}
        if isinstance(event, e.RunStarted) and event.prompt_id == self._prompt_id:
            self._mine = True
            yield {"type": "start", "messageId": self._prompt_id}
        elif isinstance(event, e.PromptCancelled) and event.prompt_id == self._prompt_id:
            self.done = True
            if event.reason == ABORTED:
                yield {"type": "abort"}
            else:
                yield {"type": "error", "errorText": event.reason}
        elif self._mine:
            translate = _CHUNKS.get(type(event))
            if translate is not None:
                yield from translate(self, event)

    def paused(self) -> Iterator[Chunk]:
        """Yield the chunks that end the stream of a run which waits for approvals."""
        if self.done or not self._mine:
            return
        self.done = True
        yield from self._close()
        yield {"type": "finish-step"}
        yield {"type": "finish", "finishReason": "tool-calls"}

    def cut(self) -> Iterator[Chunk]:
        """Yield the chunks that end the stream before its run does."""
        if self.done:
            return
        self.done = True
        yield from self._close()
        yield {"type": "abort"}

    def _turn_started(self, _event: e.TurnStarted) -> Iterator[Chunk]:
        self._calls_known = False
        self._streamed.clear()
        yield {"type": "start-step"}

    def _text(self, event: e.TextDelta) -> Iterator[Chunk]:
        yield from self._said("text", event.index, event.text)

    def _thinking(self, event: e.ThinkingDelta) -> Iterator[Chunk]:
        yield from self._said("reasoning", event.index, event.text)

    def _said(self, kind: str, index: int, delta: str) -> Iterator[Chunk]:
        part = (kind, f"{kind}_{index}")
        if self._open != part:
            yield from self._close()
            self._open = part
            yield {"type": f"{kind}-start", "id": part[1]}
        self._streamed[index] = self._streamed.get(index, "") + delta
        if delta:
            yield {"type": f"{kind}-delta", "id": part[1], "delta": delta}

    def _close(self) -> Iterator[Chunk]:
        if self._open is not None:
            kind, part_id = self._open
            self._open = None
            yield {"type": f"{kind}-end", "id": part_id}

    def _tool_input(self, event: e.ToolInputDelta) -> Iterator[Chunk]:
        yield from self._input_started(event.tool_call_id, event.tool_name)
        self._inputs[event.tool_call_id] += event.text
        yield {
            "type": "tool-input-delta",
            "toolCallId": event.tool_call_id,
            "inputTextDelta": event.text,
        }

    def _input_started(self, tool_call_id: str, tool_name: str) -> Iterator[Chunk]:
        if self._calls_known:
            self._inputs.setdefault(tool_call_id, "")
        if tool_call_id not in self._inputs:
            yield from self._close()
            self._inputs[tool_call_id] = ""
            self._waiting[tool_call_id] = tool_name
            yield {
                "type": "tool-input-start",
                "toolCallId": tool_call_id,
                "toolName": tool_name,
                **GATEWAY_TOOL,
            }

    def _message_completed(self, event: e.MessageCompleted) -> Iterator[Chunk]:
        message = event.message
        if not isinstance(message, AssistantMessage):
            return
        self._finish_reason = FINISH_REASONS.get(message.stop_reason, "stop")
        called: set[str] = set()
        for index, block in enumerate(message.content):
            if isinstance(block, Text | Thinking):
                yield from self._rest(
                    "text" if isinstance(block, Text) else "reasoning", index, block.text
                )
            elif isinstance(block, ToolCall):
                called.add(block.id)
                yield from self._input_started(block.id, block.name)
                yield {
                    "type": "tool-input-available",
                    "toolCallId": block.id,
                    "toolName": block.name,
                    "input": block.arguments,
                    **GATEWAY_TOOL,
                }
        yield from self._close()
        self._streamed.clear()  # where the call is made again, its blocks begin anew
        for tool_call_id in [each for each in self._waiting if each not in called]:
            yield {
                "type": "tool-input-error",
                "toolCallId": tool_call_id,
                "toolName": self._waiting.pop(tool_call_id),
                "input": self._inputs.pop(tool_call_id),
                "errorText": NOT_RUN,
                **GATEWAY_TOOL,
            }

    def _rest(self, kind: str, index: int, text: str) -> Iterator[Chunk]:
        """Say what of a whole block was not streamed; close it where the two differ."""
        streamed = self._streamed.get(index)
        if streamed is None:
            yield from self._said(kind, index, text)
        elif text.startswith(streamed) and len(text) > len(streamed):
            yield from self._said(kind, index, text[len(streamed) :])

    def _approval_requested(self, event: e.ApprovalRequested) -> Iterator[Chunk]:
        self._asked.add(event.tool_call_id)
        yield {
            "type": "tool-approval-request",
            "approvalId": event.approval_id,
            "toolCallId": event.tool_call_id,
        }

    def _approval_resolved(self, event: e.ApprovalResolved) -> Iterator[Chunk]:
        self._asked.add(event.tool_call_id)
        return iter(())

    def _tool_progressed(self, event: e.ToolProgressed) -> Iterator[Chunk]:
        data = {"toolCallId": event.tool_call_id, "text": event.text}
        yield {"type": "data-tool-progress", "data": data, "transient": True}

    def _retried(self, event: e.TurnRetried) -> Iterator[Chunk]:
        data = {"attempt": event.attempt, "error": event.error, "delayMs": event.delay_ms}
        yield {"type": "data-retry", "data": data, "transient": True}

    def _continued(self, event: e.RunContinued) -> Iterator[Chunk]:
        data = {"attempt": event.attempt, "error": event.reason, "delayMs": 0}
        yield {"type": "data-retry", "data": data, "transient": True}

    def _tool_completed(self, event: e.ToolCompleted) -> Iterator[Chunk]:
        yield from self._input_started(event.tool_call_id, event.tool_name)
        self._waiting.pop(event.tool_call_id, None)
        if event.outcome == "denied" and event.tool_call_id in self._asked:
            yield {"type": "tool-output-denied", "toolCallId": event.tool_call_id}
            return
        if event.is_error:
            yield {
                "type": "tool-output-error",
                "toolCallId": event.tool_call_id,
                "errorText": text_of(event.content),
                **GATEWAY_TOOL,
            }
            return
        yield {
            "type": "tool-output-available",
            "toolCallId": event.tool_call_id,
            "output": tool_result(event),
            **GATEWAY_TOOL,
        }

    def _turn_ended(self, _event: e.TurnEnded) -> Iterator[Chunk]:
        yield from self._close()
        for tool_call_id in list(self._waiting):
            del self._waiting[tool_call_id]
            yield {
                "type": "tool-output-error",
                "toolCallId": tool_call_id,
                "errorText": NOT_RUN,
                **GATEWAY_TOOL,
            }
        yield {"type": "finish-step"}

    def _completed(self, _event: e.RunCompleted) -> Iterator[Chunk]:
        self.done = True
        yield {"type": "finish", "finishReason": self._finish_reason}

    def _failed(self, event: e.RunFailed) -> Iterator[Chunk]:
        self.done = True
        yield {"type": "error", "errorText": event.error}

    def _interrupted(self, event: e.RunInterrupted) -> Iterator[Chunk]:
        self.done = True
        yield {"type": "error", "errorText": event.reason}

    def _aborted(self, _event: e.RunAborted) -> Iterator[Chunk]:
        self.done = True
        yield {"type": "abort"}


_CHUNKS: dict[type[e.Event], Callable[[UiMessageStream, Any], Iterator[Chunk]]] = {
    e.TurnStarted: UiMessageStream._turn_started,
    e.TextDelta: UiMessageStream._text,
    e.ThinkingDelta: UiMessageStream._thinking,
    e.ToolInputDelta: UiMessageStream._tool_input,
    e.MessageCompleted: UiMessageStream._message_completed,
    e.ApprovalRequested: UiMessageStream._approval_requested,
    e.ApprovalResolved: UiMessageStream._approval_resolved,
    e.ToolProgressed: UiMessageStream._tool_progressed,
    e.TurnRetried: UiMessageStream._retried,
    e.RunContinued: UiMessageStream._continued,
    e.ToolCompleted: UiMessageStream._tool_completed,
    e.TurnEnded: UiMessageStream._turn_ended,
    e.RunCompleted: UiMessageStream._completed,
    e.RunFailed: UiMessageStream._failed,
    e.RunInterrupted: UiMessageStream._interrupted,
    e.RunAborted: UiMessageStream._aborted,
}
