"""One run: the model, its tools, the model again, until it stops. On a thread of its own."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from actors.models.base import Finished, Model, ModelError, ModelRequest, ModelStream
from actors.runs.checks import check_message
from actors.runs.conversation import result_of
from actors.runs.deltas import DeltaGatherer
from actors.session import commands as c
from actors.session import events as e
from actors.session.decide import Events
from actors.session.messages import (
    AssistantMessage,
    Block,
    Message,
    Text,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from actors.timers import Timers
from persistence.native import run_soon

PARTS_BETWEEN_YIELDS = 32

logger = logging.getLogger(__name__)


class RunLimits(Protocol):
    """How long a run may take."""

    run_turns_max: int


class Session(Protocol):
    """The session's actor, as its run sees it; a session that is gone takes no reports."""

    def report(self, command: c.RunCommand, done: Callable[[Events], None]) -> None:
        """Report; ``done`` gets the events it led to once they are durable, none if void."""


class RunOver(Exception):
    """The session has ended this run; there is nobody to report to."""


class RunWorker:
    """Works on one prompt. Whatever goes wrong becomes the run's failure in the log."""

    def __init__(
        self,
        session: Session,
        prompt_id: str,
        model: Callable[[], Model],
        request: Callable[[Model], ModelRequest],
        recall: Callable[[Model, Sequence[Message]], str],
        *,
        limits: RunLimits,
        timers: Timers,
        now_ms: Callable[[], int],
    ) -> None:
        self._session = session
        self._prompt_id = prompt_id
        self._find_model = model
        self._make_request = request
        self._recall = recall
        self._limits = limits
        self._timers = timers
        self._now_ms = now_ms
        self._over = False
        self._waiting: threading.Event | None = None
        self._stream: ModelStream | None = None

    def start(self) -> None:
        """Begin, on a thread of its own."""
        run_soon(self._run)

    def cancel(self) -> None:
        """Stop at the next part of the model's answer; does not block."""
        self._over = True
        waiting = self._waiting
        if waiting is not None:
            waiting.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def _run(self) -> None:
        try:
            self._converse()
        except RunOver:
            pass
        except ModelError as error:
            self._fail(str(error))
        except Exception as error:
            logger.exception("Run %s failed.", self._prompt_id)
            self._fail(f"Internal error: {type(error).__name__}")

    def _converse(self) -> None:
        model = self._find_model()
        request = self._make_request(model)
        for _turn in range(self._limits.run_turns_max):
            request = replace(request, recall=self._recall(model, request.messages))
            answer, events = self._answer(model, request)
            calls = [block for block in answer.content if isinstance(block, ToolCall)]
            results = [self._use_tool(call) for call in calls]
            if calls:
                events = self._ask(c.NextTurn(self._now_ms(), self._prompt_id, answer))
            elif e.RunCompleted in map(type, events):
                return
            request = replace(
                request,
                messages=[*request.messages, answer, *results, *_told(events)],
            )
        raise ModelError(f"The run took more than {self._limits.run_turns_max} turns.")

    def _answer(self, model: Model, request: ModelRequest) -> tuple[AssistantMessage, Events]:
        """Call the model once; return its answer, and what its session made of it."""
        gatherer = DeltaGatherer(self._start_message, self._record_deltas, self._timers)
        try:
            with model.stream(request) as stream:
                self._stream = stream
                for number, part in enumerate(stream):
                    if self._over:
                        raise RunOver
                    if number % PARTS_BETWEEN_YIELDS == 0:
                        time.sleep(0)  # a burst of parts must not hold up everyone else
                    if isinstance(part, Finished):
                        return self._complete(part.message, gatherer)
                    gatherer.add(part)
        except ModelError as error:
            self._fail(str(error), gatherer.close())
            raise RunOver from error
        finally:
            self._stream = None
            gatherer.close()
        self._fail("The model's answer broke off.", gatherer.close())
        raise RunOver

    def _complete(
        self, message: AssistantMessage, gatherer: DeltaGatherer
    ) -> tuple[AssistantMessage, Events]:
        check_message(message)
        now = self._now_ms()
        answer = replace(message, timestamp=now)
        command = c.CompleteMessage(now, self._prompt_id, gatherer.close(), answer)
        return answer, self._ask(command)

    def _use_tool(self, call: ToolCall) -> ToolResultMessage:
        """Run one tool: durable that it starts, then its side effect, then its result."""
        started = self._ask(
            c.StartTool(self._now_ms(), self._prompt_id, call.id, call.name, call.arguments)
        )
        if isinstance(started[0], e.ToolCompleted):  # somebody's steering comes first
            return result_of(started[0])
        content: tuple[Block, ...] = (Text(f"There is no tool named {call.name!r}."),)
        completed = self._ask(
            c.CompleteTool(self._now_ms(), self._prompt_id, call.id, call.name, "error", content)
        )
        assert isinstance(completed[0], e.ToolCompleted)
        return result_of(completed[0])

    def _start_message(self, deltas: tuple[c.Delta, ...], done: Callable[[], None]) -> None:
        command = c.StartMessage(self._now_ms(), self._prompt_id, deltas)
        self._session.report(command, lambda _events: done())

    def _record_deltas(self, deltas: tuple[c.Delta, ...], done: Callable[[], None]) -> None:
        command = c.RecordDeltas(self._now_ms(), self._prompt_id, deltas)
        self._session.report(command, lambda _events: done())

    def _fail(self, error: str, deltas: tuple[c.Delta, ...] = ()) -> None:
        if not self._over:
            command = c.FailRun(self._now_ms(), self._prompt_id, error, deltas)
            self._session.report(command, lambda _events: None)

    def _ask(self, command: c.RunCommand) -> Events:
        """Report, and wait until it is durable. Raises RunOver when it came too late."""
        durable = self._waiting = threading.Event()
        answer: list[Events] = []

        def done(events: Events) -> None:
            answer.append(events)
            durable.set()

        if not self._over:
            self._session.report(command, done)
            durable.wait()
        self._waiting = None
        if not answer or not answer[0]:
            raise RunOver
        return answer[0]


def _told(events: Events) -> list[UserMessage]:
    """Return what was said to the run and is delivered with these events."""
    return [
        event.message
        for before, event in itertools.pairwise(events)
        if isinstance(before, e.SteeringDelivered)
        and isinstance(event, e.MessageCompleted)
        and isinstance(event.message, UserMessage)
    ]
