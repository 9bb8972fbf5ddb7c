"""One run: the model, its tools, the model again, until it stops. On a thread of its own.

It begins with what the log says: where the last answer's tool calls have no results yet, a run
that waited for approvals goes on with them.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from actors.models.base import Model, ModelError, ModelRequest, ToolSpec
from actors.runs.compaction import needs_compaction
from actors.runs.compactor import Compactor
from actors.runs.context import build_context
from actors.runs.link import Numbered, Reported, RunLink, RunOver
from actors.runs.model_call import AnsweredCall, CallFailed, ModelCaller
from actors.runs.tool_calls import ToolCaller
from actors.runs.transcript import Transcript
from actors.session import commands as c
from actors.session import events as e
from actors.session.messages import AssistantMessage, Message
from persistence.native import run_soon

logger = logging.getLogger(__name__)


class RunLimits(Protocol):
    """How long a run may take."""

    run_turns_max: int


class Brief(Protocol):
    """What a run needs to know before its first model call; asked for on the run's thread."""

    turn: int
    thinking_level: str

    def model(self) -> Model:
        """Return the session's model. Raises ModelError."""

    def transcript(self, model: Model) -> Transcript:
        """Return the conversation so far, as the log has it."""

    def system(self) -> str:
        """Return what a model is told before the conversation."""

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools that a model may ask for now."""

    def recall(self, model: Model, messages: Sequence[Message]) -> str:
        """Return what is remembered of the last user's message."""


class RunWorker:
    """Works on one prompt. Whatever goes wrong becomes the run's failure in the log."""

    def __init__(
        self,
        link: RunLink,
        brief: Brief,
        models: ModelCaller,
        tools: ToolCaller,
        compactor: Compactor,
        limits: RunLimits,
    ) -> None:
        self._link = link
        self._brief = brief
        self._models = models
        self._tools = tools
        self._compactor = compactor
        self._limits = limits

    def start(self) -> None:
        """Begin, on a thread of its own."""
        run_soon(self._run)

    def cancel(self) -> None:
        """Stop whatever is being done; does not block."""
        self._link.cancel()

    def _run(self) -> None:
        try:
            self._converse()
        except RunOver:
            pass
        except CallFailed as failed:
            self._fail(str(failed), failed.deltas)
        except ModelError as error:
            self._fail(str(error))
        except Exception as error:
            logger.exception("Run %s failed.", self._link.prompt_id)
            self._fail(f"Internal error: {type(error).__name__}")

    def _converse(self) -> None:
        model = self._brief.model()
        transcript = self._brief.transcript(model)
        for _turn in range(self._brief.turn, self._limits.run_turns_max + 1):
            calls = transcript.unanswered()
            if not calls:
                answered = self._answer(model, transcript)
                transcript.extend(_messages_of(answered.reported))
                calls = transcript.unanswered()
                if not calls:
                    if e.RunCompleted in map(type, answered.reported.events):
                        return
                    continue  # somebody said more meanwhile: the next turn has begun
            transcript.extend(self._tools.use(calls))
            transcript.extend(_messages_of(self._next_turn(transcript.last_answer)))
        raise ModelError(f"The run took more than {self._limits.run_turns_max} turns.")

    def _next_turn(self, answer: AssistantMessage) -> Reported:
        return self._link.ask(c.NextTurn(self._link.now_ms(), self._link.prompt_id, answer))

    def _answer(self, model: Model, transcript: Transcript) -> AnsweredCall:
        """Call the model; where it says that it was told too much, once more with less."""
        if needs_compaction(transcript, model.context_tokens):
            self._make_room(model, transcript)
        try:
            return self._models.answer(model, self._request(model, transcript))
        except CallFailed as failed:
            if not failed.error.overflow:
                raise
            self._models.record_retry(failed, attempt=2)
            if not self._compact(model, transcript, "overflow"):
                raise
        return self._models.answer(model, self._request(model, transcript))

    def _make_room(self, model: Model, transcript: Transcript) -> None:
        """Compact; where no summary can be had, the oldest messages are left out instead."""
        try:
            self._compact(model, transcript, "window")
        except ModelError as error:
            self._link.check()
            logger.warning("Run %s goes on without a summary: %s", self._link.prompt_id, error)

    def _compact(self, model: Model, transcript: Transcript, reason: str) -> bool:
        """Put a summary in place of older messages; tell whether there was anything to cut."""
        compaction = self._compactor.compact(model, transcript, reason, self._link.on_cancel)
        if compaction is None:
            return False
        self._link.check()
        link = self._link
        now = link.now_ms()
        link.ask(c.CompactRunContext(now, link.prompt_id, compaction))
        transcript.compact(compaction, now)
        return True

    def _request(self, model: Model, transcript: Transcript) -> ModelRequest:
        messages = build_context(
            transcript.newest_first(),
            context_tokens=model.context_tokens,
            summary=transcript.summary,
            tokens=transcript.tokens,
        )
        return ModelRequest(
            messages,
            self._brief.system(),
            self._brief.tools(),
            self._brief.thinking_level,
            recall=self._brief.recall(model, messages),
        )

    def _fail(self, error: str, deltas: tuple[c.Delta, ...] = ()) -> None:
        if not self._link.over:
            link = self._link
            link.tell(c.FailRun(link.now_ms(), link.prompt_id, error, deltas))


def _messages_of(reported: Reported) -> list[Numbered]:
    """Return the model's answer, and what was said to the run and is delivered with it."""
    numbered = reported.numbered()
    previous: list[e.Event | None] = [None, *[event for _seq, event in numbered]]
    return [
        (seq, event.message)
        for (seq, event), before in zip(numbered, previous, strict=False)
        if isinstance(event, e.MessageCompleted)
        and (isinstance(event.message, AssistantMessage) or isinstance(before, e.SteeringDelivered))
    ]
