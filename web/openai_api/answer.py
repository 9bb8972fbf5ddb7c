"""One prompt's events as the answer that clients of OpenAI's API are given. Pure."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from actors.session import events as e
from actors.session.messages import AssistantMessage, Text, Thinking, Usage
from actors.session.record_events import StreamErased
from actors.session.state import Approval
from web.outcome import ABORTED, ERASED

Kind = Literal["text", "thinking"]

BETWEEN_TURNS = "\n\n"
FINISH_REASONS = {"length": "length", "content_filter": "content_filter"}
"""Every other reason to stop is ``stop``: the gateway's tools are nothing that clients run."""


class Piece(NamedTuple):
    """More of an answer."""

    kind: Kind
    text: str


class Failure(NamedTuple):
    """Why there is no whole answer, with the HTTP status for it."""

    status: int
    text: str
    code: str | None = None


class Answer:
    """Folds the events of one prompt; ``done`` once nothing more will come.

    The texts of a run's turns are one text, with an empty line between them. ``usage`` is that
    of all model calls of the run.
    """

    def __init__(self, prompt_id: str) -> None:
        self.prompt_id = prompt_id
        self.done = False
        self.failure: Failure | None = None
        self.finish_reason = "stop"
        self.usage = Usage()
        self._started = False
        self._streamed: dict[int, str] = {}
        self._pieces: list[Piece] = []
        self._mark = 0
        self._new_turn = False
        self._spoke = False

    @property
    def text(self) -> str:
        """Return what was said, without what a model call had said that was made again."""
        return self._joined("text")

    @property
    def thinking(self) -> str:
        """Return what was reasoned."""
        return self._joined("thinking")

    def _joined(self, kind: Kind) -> str:
        return "".join([each.text for each in self._pieces if each.kind == kind]).lstrip("\n")

    def pieces(self, event: e.Event) -> Iterator[Piece]:
        """Yield what an event adds to the answer; nothing for another prompt's."""
        if self.done:
            return
        if isinstance(event, StreamErased):  # what became of the prompt may be gone with it
            self._end(Failure(409, ERASED))
        elif getattr(event, "prompt_id", None) == self.prompt_id:
            self._follow_own(event)
        elif self._started:
            yield from self._said(event)

    def waiting(self, approvals: Iterable[Approval]) -> Iterator[Piece]:
        """Yield what is said of a run that waits for approvals, and end the answer there."""
        if self.done or not self._started:
            return
        tools = ", ".join([f"{each.tool_name} ({each.approval_id})" for each in approvals])
        self._new_turn = True
        yield from self._more("text", f"[Waiting for approval of {tools}.]")
        self.done = True

    def _follow_own(self, event: e.Event) -> None:
        match event:
            case e.RunStarted():
                self._started = True
            case e.RunCompleted():
                self.done = True
            case e.RunFailed():
                self._end(Failure(502, event.error))
            case e.RunAborted():
                self._end(Failure(409, ABORTED, ABORTED))
            case e.PromptCancelled():
                self._end(Failure(409, event.reason, ABORTED))
            case e.RunInterrupted():
                self._end(Failure(503, event.reason))

    def _end(self, failure: Failure) -> None:
        self.done, self.failure = True, failure

    def _said(self, event: e.Event) -> Iterator[Piece]:
        match event:
            case e.TextDelta():
                yield from self._delta("text", event.index, event.text)
            case e.ThinkingDelta():
                yield from self._delta("thinking", event.index, event.text)
            case e.MessageCompleted(message=AssistantMessage() as message):
                yield from self._message(message)

    def _message(self, message: AssistantMessage) -> Iterator[Piece]:
        self.usage += message.usage
        self.finish_reason = FINISH_REASONS.get(message.stop_reason, "stop")
        for index, block in enumerate(message.content):
            if isinstance(block, Text | Thinking):
                kind: Kind = "text" if isinstance(block, Text) else "thinking"
                streamed = self._streamed.get(index, "")
                if block.text.startswith(streamed):
                    yield from self._delta(kind, index, block.text[len(streamed) :])
        if message.stop_reason == "retried":  # it is said once more
            del self._pieces[self._mark :]
        self._mark = len(self._pieces)
        self._streamed.clear()
        self._new_turn = True

    def _delta(self, kind: Kind, index: int, text: str) -> Iterator[Piece]:
        self._streamed[index] = self._streamed.get(index, "") + text
        yield from self._more(kind, text)

    def _more(self, kind: Kind, text: str) -> Iterator[Piece]:
        if not text:
            return
        if kind == "text" and self._new_turn:
            self._new_turn = False
            text = BETWEEN_TURNS + text if self._spoke else text
        self._spoke = self._spoke or kind == "text"
        self._pieces.append(Piece(kind, text))
        yield Piece(kind, text)
