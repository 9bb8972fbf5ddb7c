"""A run's worker that reports what the seed says, as RunWorker and ToolCaller would."""

from collections.abc import Callable, Sequence
from typing import Any

from actors.replay import decode
from actors.runs.context import counted
from actors.runs.conversation import message_of
from actors.runs.link import Reported, RunLink, RunOver
from actors.runs.run_worker import _messages_of
from actors.runs.transcript import Transcript
from actors.session import commands as c
from actors.session import events as e
from actors.session.messages import AssistantMessage, Block, Text, ToolCall, Usage
from actors.session.state import SessionState
from persistence.errors import PersistenceError
from persistence.records import Head
from tests.simulator.scheduler import When, wait

TURNS_MAX = 4
READS, WRITES, ASKS = "read", "write", "ask"


class ModelFailed(Exception):
    """The model gave up."""


class SimLink(RunLink):
    """The real link, but waiting by the scheduler."""

    def ask(self, command: c.RunCommand) -> Reported:
        answers: list[Reported] = []
        if not self.over:
            self._session.report(command, answers.append)
            wait(When(lambda: bool(answers) or self.over))
        if not answers or not answers[0].events:
            raise RunOver
        return answers[0]


class ScriptedWorker:
    """Implements RunHandle."""

    def __init__(self, process: Any, session: Any, head: Head, state: SessionState) -> None:
        assert state.run is not None
        self._process = process
        self._rng = process.rng
        self._world = process.world
        self._head = head
        self._state = state
        self._turn = max(1, state.run.turn)
        self._decided = {each.tool_call_id for each in state.approvals if each.approved is not None}
        self._link = SimLink(session, state.run.prompt_id, process.now_ms)
        process.spawn(f"run {state.run.prompt_id}", self._run).urgent = True

    def cancel(self) -> None:
        self._link.cancel()

    def _run(self) -> None:
        try:
            self._converse()
        except RunOver:
            pass
        except ModelFailed as error:
            self._fail(str(error), (e.TextDelta(0, "half"),))
        except PersistenceError as error:
            self._fail(f"Internal error: {type(error).__name__}", ())

    def _fail(self, error: str, deltas: tuple[c.Delta, ...]) -> None:
        if not self._link.over:
            self._link.tell(self._made(c.FailRun, error, deltas))

    def _converse(self) -> None:
        transcript = self._transcript()
        while True:
            calls = transcript.unanswered()
            if not calls:
                answered = self._answer()
                transcript.extend(_messages_of(answered))
                calls = transcript.unanswered()
                if not calls:
                    if any(isinstance(event, e.RunCompleted) for event in answered.events):
                        return
                    self._turn += 1
                    continue
            transcript.extend(self._use(calls))
            reported = self._link.ask(self._made(c.NextTurn, transcript.last_answer))
            transcript.extend(_messages_of(reported))
            self._turn += 1

    def _transcript(self) -> Transcript:
        conversation = []
        first = self._state.context_seq - 1
        for stored in self._process.view.read(self._head, after=first, paged=True):
            message = message_of(decode(self._head.stream_id, stored))
            if message is not None:
                conversation.append(counted(stored.seq, message))
        return Transcript(conversation, self._state.summary, self._state.compacted_at)

    def _answer(self) -> Reported:
        """Have the model answer, in parts and with retries."""
        rng, link, attempt = self._rng, self._link, 1
        wait()
        while not self._world.settling and rng.random() < 0.15:
            if attempt > 2 or rng.random() < 0.2:
                raise ModelFailed("The model is not there.")
            link.tell(self._made(c.StartMessage, (e.TextDelta(0, "ha"),)))
            wait()
            attempt += 1
            link.ask(self._made(c.RetryTurn, attempt, "cut off", 10, (e.TextDelta(0, "lf"),)))
        if not self._world.settling and rng.random() < 0.8:
            link.tell(self._made(c.StartMessage, (e.ThinkingDelta(0, "hm"),)))
            for index in range(rng.randrange(3)):
                wait()
                link.check()
                link.tell(self._made(c.RecordDeltas, (e.TextDelta(1, f"part {index}"),)))
        wait()
        return link.ask(self._made(c.CompleteMessage, (), self._message()))

    def _message(self) -> AssistantMessage:
        rng = self._rng
        content: list[Block] = [Text("an answer")]
        if self._turn < TURNS_MAX and rng.random() < (0.2 if self._world.settling else 0.75):
            for _call in range(rng.randrange(1, 3)):
                name = rng.choice((READS, WRITES, ASKS))
                content.append(ToolCall(self._world.new_id("t"), name, {"x": 1}))
        reason = "tool_use" if len(content) > 1 else "stop"
        return AssistantMessage(
            tuple(content), self._link.now_ms(), "sim", "sim", reason, Usage(1, 1)
        )

    def _use(self, calls: Sequence[ToolCall]) -> list[tuple[int, Any]]:
        unapproved = [call for call in calls if call.name == ASKS and call.id not in self._decided]
        results: list[tuple[int, Any]] = []
        if unapproved:
            requests = tuple(
                [
                    c.ToolRequest(self._world.new_id("a"), call.id, call.name, call.arguments, "?")
                    for call in unapproved
                ]
            )
            expires_at = self._link.now_ms() + 60_000
            reported = self._link.ask(self._made(c.RequestApprovals, requests, expires_at))
            if any(isinstance(event, e.ApprovalRequested) for event in reported.events):
                raise RunOver
            results.extend(_results(reported))
        rest = [call for call in calls if call not in unapproved]
        if len(rest) > 1 and all(call.name == READS for call in rest):
            return results + self._use_together(rest)
        for call in rest:
            results.extend(self._begin(call) or self._end(call))
        return results

    def _use_together(self, calls: Sequence[ToolCall]) -> list[tuple[int, Any]]:
        """Use tools that only read at once; which ends first the seed says."""
        results: list[tuple[int, Any]] = []
        running = []
        for call in calls:
            known = self._begin(call)
            results.extend(known)
            if not known:
                running.append(call)
        if self._rng.random() < 0.5:
            running.reverse()
        for call in running:
            results.extend(self._end(call))
        return results

    def _begin(self, call: ToolCall) -> list[tuple[int, Any]]:
        """Start a tool; return its result where it must not run, and let it take effect else."""
        started = self._link.ask(self._made(c.StartTool, call.id, call.name, call.arguments))
        known = _results(started)
        if not known:
            self._link.check()
            self._world.take_effect(call.id, self._process)
        return known

    def _end(self, call: ToolCall) -> list[tuple[int, Any]]:
        for _moment in range(self._rng.randrange(1, 5)):
            wait()
        if self._rng.random() < 0.2:
            self._link.tell(self._made(c.ProgressTool, call.id, call.name, "so far"))
            wait()
        self._link.check()
        outcome = "ok" if self._rng.random() < 0.9 else "error"
        completed = self._link.ask(
            self._made(c.CompleteTool, call.id, call.name, outcome, (Text("done"),))
        )
        return _results(completed)

    def _made(self, kind: Callable[..., Any], *fields: Any) -> Any:
        return kind(self._link.now_ms(), self._link.prompt_id, *fields)


def _results(reported: Reported) -> list[tuple[int, Any]]:
    return [
        (seq, message_of(event))
        for seq, event in reported.numbered()
        if isinstance(event, e.ToolCompleted)
    ]
