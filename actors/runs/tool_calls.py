"""A turn's tool calls: decided, asked about, started in the log, run, and their results kept."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from actors.runs.conversation import result_of
from actors.runs.link import NumberedResult, Reported, RunLink, RunOver
from actors.runs.progress import ToolProgress
from actors.runs.results import bounded, failure_of
from actors.runs.tracing import NO_TRACE, RunTrace, ToolSpan
from actors.session import commands as c
from actors.session import events as e
from actors.session.messages import Text, ToolCall
from actors.session.state import Approval
from actors.timers import Timers
from actors.tools.base import Cancellation, Tool, ToolContext, ToolResult, said
from actors.tools.toolbox import SessionTools
from persistence.native import run_soon

AT_ONCE_MAX = 8
OVERTIME_S = 5.0
"""What a tool gets beyond its time to end by itself before nobody waits any more."""


class _Planned(Struct, frozen=True):
    """A call with its tool; without a tool ``problem`` says what the model is told instead."""

    call: ToolCall
    tool: Tool | None = None
    problem: str = ""
    outcome: str = "error"
    asked_because: str = ""


class ToolCaller:
    """Makes the tool calls of one run. ``approvals`` are those that were decided already."""

    def __init__(
        self,
        link: RunLink,
        tools: SessionTools,
        approvals: Sequence[Approval],
        timers: Timers,
        new_id: Callable[[], str],
        trace: RunTrace = NO_TRACE,
    ) -> None:
        self._link = link
        self._tools = tools
        self._approvals: Mapping[str, Approval] = {each.tool_call_id: each for each in approvals}
        self._timers = timers
        self._new_id = new_id
        self._trace = trace

    def use(self, calls: Sequence[ToolCall]) -> list[NumberedResult]:
        """Return the results, in the calls' order, once all of them are durable.

        Those of tools that only read run at once, others one after the other. Raises RunOver,
        also where the run has to wait for approvals.
        """
        planned = [self._plan(call) for call in calls]
        unapproved = [
            each for each in planned if each.asked_because and each.call.id not in self._approvals
        ]
        if unapproved:
            skipped = self._results(self._request(unapproved))
            rest = [each for each in planned if each not in unapproved]
        else:
            skipped, rest = [], planned
        made = {message.tool_call_id: (seq, message) for seq, message in skipped}
        for seq, message in self._make(rest):
            made[message.tool_call_id] = (seq, message)
        return [made[call.id] for call in calls]

    def _plan(self, call: ToolCall) -> _Planned:
        tool = self._tools.find(call.name)
        if tool is None:
            return _Planned(call, problem=f"There is no tool named {call.name!r}.")
        problem = self._tools.problem(tool, call.arguments)
        if problem is not None:
            return _Planned(call, problem=problem)
        decision = self._tools.decide(tool, call.arguments)
        if decision.action == "deny":
            return _Planned(call, problem=decision.reason, outcome="denied")
        asked_because = decision.reason if decision.action == "ask" else ""
        return _Planned(call, tool, asked_because=asked_because)

    def _request(self, unapproved: Sequence[_Planned]) -> Reported:
        """Have the calls wait for approval. Raises RunOver, unless they were skipped instead."""
        now = self._link.now_ms()
        requests = [
            c.ToolRequest(
                self._new_id(),
                each.call.id,
                each.call.name,
                each.call.arguments,
                each.asked_because,
            )
            for each in unapproved
        ]
        expires_at = now + int(self._tools.approval_timeout_s * 1000)
        reported = self._link.ask(
            c.RequestApprovals(now, self._link.prompt_id, tuple(requests), expires_at)
        )
        if any(isinstance(event, e.ApprovalRequested) for event in reported.events):
            raise RunOver  # whoever goes on when they are answered starts anew from the log
        return reported

    def _make(self, planned: Sequence[_Planned]) -> list[NumberedResult]:
        reading = all(each.tool is not None and each.tool.effect == "read" for each in planned)
        if not reading or len(planned) < 2:
            return [self._use(each) for each in planned]
        with ThreadPoolExecutor(min(AT_ONCE_MAX, len(planned))) as pool:
            return list(pool.map(self._use, planned))

    def _use(self, planned: _Planned) -> NumberedResult:
        """Make one call: durable that it starts, then its side effect, then its result."""
        call, tool = planned.call, planned.tool
        if planned.outcome == "denied":
            return self._complete(call, "denied", said(planned.problem))
        started = self._link.ask(
            c.StartTool(
                self._link.now_ms(), self._link.prompt_id, call.id, call.name, call.arguments
            )
        )
        for numbered in self._results(started):  # skipped, or denied
            return numbered
        if tool is None:
            return self._complete(call, "error", said(planned.problem))
        with self._trace.tool(call) as span:
            result = bounded(self._run(tool, call, span), self._tools.limits)
            span.done(result)
        return self._complete(call, "error" if result.is_error else "ok", result)

    def _complete(self, call: ToolCall, outcome: str, result: ToolResult) -> NumberedResult:
        link = self._link
        completed = link.ask(
            c.CompleteTool(
                link.now_ms(),
                link.prompt_id,
                call.id,
                call.name,
                outcome,
                result.content,
                result.details,
            )
        )
        return self._results(completed)[0]

    def _results(self, reported: Reported) -> list[NumberedResult]:
        return [
            (seq, result_of(event))
            for seq, event in reported.numbered()
            if isinstance(event, e.ToolCompleted)
        ]

    def _run(self, tool: Tool, call: ToolCall, span: ToolSpan) -> ToolResult:
        """Run the tool on a thread of its own; what does not end in time is left to itself."""
        cancellation, finished = Cancellation(), threading.Event()
        results: list[ToolResult] = []
        progress = ToolProgress(self._link, call, self._timers, self._tools.limits.output_chars)
        context = ToolContext(
            self._tools.workspace(),
            self._tools.session_key,
            self._link.prompt_id,
            call.id,
            cancellation,
            progress.add,
            self._tools.limits,
            span.traceparent,
            span.tracestate,
        )

        def work() -> None:
            try:
                results.append(tool.run(call.arguments, context))
            except Exception as error:  # noqa: BLE001 - failure_of logs what nobody foresaw
                results.append(failure_of(error, call.name))
            finally:
                finished.set()

        timeout_s = self._tools.limits.timeout_s
        with self._link.on_cancel(cancellation.cancel), self._link.on_cancel(finished.set):
            run_soon(work)
            finished.wait(timeout_s + OVERTIME_S)
        progress.close()
        self._link.check()
        if not results:
            cancellation.cancel()
            return ToolResult((Text(f"The tool took more than {timeout_s:g} s."),), is_error=True)
        return results[0]
