"""Puts together what a run is made of, and compacts sessions when somebody asks for it."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from actors.models.base import Model, ToolSpec
from actors.models.catalog import ModelCatalog
from actors.models.info import cost_of
from actors.replay import decode
from actors.runs.compactor import Compactor
from actors.runs.context import Counted, counted
from actors.runs.conversation import EndedRun, Recent, message_of
from actors.runs.link import RunLink, Session
from actors.runs.model_call import ModelCaller, RetrySettings
from actors.runs.run_worker import RunLimits, RunWorker
from actors.runs.system_prompt import system_prompt
from actors.runs.tool_calls import ToolCaller
from actors.runs.tracing import NO_TRACER, RunTrace, Tracer
from actors.runs.transcript import Transcript
from actors.session.commands import Compaction
from actors.session.messages import Message, Usage
from actors.session.state import ModelRef, Run, SessionState
from actors.timers import Timers
from actors.tools.toolbox import SessionTools, Toolbox
from persistence.event_log import EventLog
from persistence.records import Head

WINDOWS_READ_MAX = 8
"""How much of a conversation is read, in windows of its model: what is older is not summarised."""


class RunSettings(RunLimits, RetrySettings, Protocol):
    """What runs read of the settings."""

    system_prompt: str


class RunMemory(Protocol):
    """Memory, as runs use it."""

    def recaller(self, key: str, run: Run) -> Callable[[Model, Sequence[Message]], str]:
        """Return what tells a run's model what is remembered."""

    def run_ended(self, ended: EndedRun) -> None:
        """Remember a run that is over; does not block."""


class RunLauncher:
    """Starts the workers of runs."""

    def __init__(
        self,
        log: EventLog,
        models: ModelCatalog,
        memory: RunMemory,
        toolbox: Toolbox,
        timers: Timers,
        settings: Callable[[], RunSettings],
        new_id: Callable[[], str],
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self.models = models
        self._log = log
        self._memory = memory
        self._toolbox = toolbox
        self._timers = timers
        self._settings = settings
        self._new_id = new_id
        self._tracer = tracer
        self._compactor = Compactor(self._price)

    def start(
        self,
        session: Session,
        head: Head,
        state: SessionState,
        recent: Recent,
        now_ms: Callable[[], int],
    ) -> RunWorker:
        """Begin to work on the state's run, or go on with it, on a thread of its own."""
        assert state.run is not None
        settings = self._settings()
        link = RunLink(session, state.run.prompt_id, now_ms)
        tools = self._toolbox.for_session(state.key, state.workspace_id)
        trace = self._tracer.run(state, state.run)
        worker = RunWorker(
            link,
            _Brief(self, head, state, recent, tools, trace),
            ModelCaller(link, self._timers, settings, self._price),
            ToolCaller(link, tools, state.approvals, self._timers, self._new_id, trace),
            self._compactor,
            settings,
        )
        worker.start()
        return worker

    def run_ended(self, ended: EndedRun) -> None:
        """Have the run remembered, and its span told; does not block."""
        self._tracer.run_ended(ended, self.models.resolve(ended.state.model))
        self._memory.run_ended(ended)

    def compact(self, head: Head, state: SessionState) -> Compaction | None:
        """Return a summary of a session's older messages; None where there are none.

        Blocks while the session's model answers. Raises ModelError.
        """
        model = self.models.find(state.model)
        transcript = self.transcript(head, state, Recent((), head.version), model)
        return self._compactor.compact(
            model, transcript, "asked", lambda _call: contextlib.nullcontext()
        )

    def transcript(
        self, head: Head, state: SessionState, recent: Recent, model: Model
    ) -> Transcript:
        """Return the conversation as the log has it, as much as can be used with the model."""
        left = model.context_tokens * WINDOWS_READ_MAX
        kept: list[Counted] = []
        for each in itertools.chain(recent.counted(), self._older(head, state, recent.since + 1)):
            left -= each.tokens
            if left < 0 and kept:
                break
            kept.append(each)
        kept.reverse()
        return Transcript(kept, state.summary, state.compacted_at)

    def system(self, tools: SessionTools) -> str:
        """Return what a model is told before the conversation."""
        return system_prompt(self._settings().system_prompt, tools.folder, tools.specs())

    def recaller(self, key: str, run: Run) -> Callable[[Model, Sequence[Message]], str]:
        """Return what tells a run's model what is remembered."""
        return self._memory.recaller(key, run)

    def _price(self, model: Model, usage: Usage) -> float:
        return cost_of(usage, self.models.info(ModelRef(model.provider, model.model_id)).price)

    def _older(self, head: Head, state: SessionState, before: int) -> Iterator[Counted]:
        stored = self._log.read(
            head, after=state.context_seq - 1, before=before, newest_first=True, paged=True
        )
        for each in stored:
            message = message_of(decode(head.stream_id, each))
            if message is not None:
                yield counted(each.seq, message)


class _Brief:
    """Implements run_worker.Brief."""

    def __init__(
        self,
        launcher: RunLauncher,
        head: Head,
        state: SessionState,
        recent: Recent,
        tools: SessionTools,
        trace: RunTrace,
    ) -> None:
        assert state.run is not None
        self.turn = max(1, state.run.turn)
        self.thinking_level = state.thinking_level
        self.recall = launcher.recaller(state.key, state.run)
        self._launcher = launcher
        self._head = head
        self._state = state
        self._recent = recent
        self._tools = tools
        self._trace = trace

    def model(self) -> Model:
        return self._trace.model(self._launcher.models.find(self._state.model))

    def transcript(self, model: Model) -> Transcript:
        return self._launcher.transcript(self._head, self._state, self._recent, model)

    def system(self) -> str:
        return self._launcher.system(self._tools)

    def tools(self) -> Sequence[ToolSpec]:
        return self._tools.specs()
