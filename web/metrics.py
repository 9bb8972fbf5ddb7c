"""What a process counts and measures, for Prometheus.

Importing this settles whether the counts are shared between processes: see metrics_files.py. Label
values are bounded in number, whatever clients and providers send.
"""

import fcntl
import functools
import os
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from actors.feed import Committed
from actors.session import events as e
from actors.session.messages import AssistantMessage, Usage
from actors.session.state import SessionState
from persistence.native import native_caller
from web.metrics_files import DIRECTORY_VARIABLE, totals_locked

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
UNKNOWN = "unknown"
MODELS_MAX = 100
OUTCOMES_MAX = 20
OPEN_RUNS_MAX = 20_000
READ_TRIES = 100
READ_WAIT_S = 0.01

REQUEST_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
COMMIT_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
RUN_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600)
ASK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

RUN_OUTCOMES: dict[type[e.Event], str] = {
    e.RunCompleted: "completed",
    e.RunFailed: "failed",
    e.RunAborted: "aborted",
    e.RunInterrupted: "interrupted",
}
FOLLOWED = frozenset(
    {
        *RUN_OUTCOMES,
        e.RunStarted,
        e.TurnStarted,
        e.TurnRetried,
        e.TurnEnded,
        e.ContextCompacted,
        e.MessageCompleted,
        e.ToolCompleted,
        e.ApprovalRequested,
        e.ApprovalResolved,
    }
)
"""The events that are looked into; the others, deltas above all, are only counted."""

disable_created_metrics()  # type: ignore[no-untyped-call] # shared counts don't have them either

_SHARED = values.ValueClass is not values.MutexValue


class _Names:
    """Label values: the first ``count_max`` stand for themselves, all others are "other"."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._known: set[str] = set()

    def bounded(self, name: str) -> str:
        """Return the label value for a name."""
        if name not in self._known:
            if len(self._known) >= self._count_max:
                return OTHER
            self._known.add(name)
        return name


class _OpenRun:
    """What is remembered of a run until it ends; ``started_at`` is 0 where it is not known."""

    __slots__ = ("model", "started_at")

    def __init__(self) -> None:
        self.started_at = 0
        self.model = ""


class _Spending:
    """The counters of one model, looked up once."""

    def __init__(self, tokens: Counter, cost: Counter, model: str) -> None:
        self._input = tokens.labels(model, "input")
        self._output = tokens.labels(model, "output")
        self._cache_read = tokens.labels(model, "cache_read")
        self._cache_write = tokens.labels(model, "cache_write")
        self._cost = cost.labels(model)

    def add(self, usage: Usage) -> None:
        """Count a usage; a provider's negative number counts as none."""
        for counter, amount in (
            (self._input, usage.input),
            (self._output, usage.output),
            (self._cache_read, usage.cache_read),
            (self._cache_write, usage.cache_write),
            (self._cost, usage.cost_usd),
        ):
            if amount > 0:
                counter.inc(amount)


class Metrics:
    """Counts what happens in this process; make one per process, after the fork.

    Each method may be called from any thread or greenlet, waits for nothing and never fails.
    ``registry`` has what this process counts by itself.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._away = native_caller()  # many workers' files take long enough to stall the streams
        self._add_http()
        self._add_sessions()
        self._add_models()
        self._add_log()
        self._add_gauges()
        self._add_ownership()

    def exposition(self) -> bytes:
        """Return all values in Prometheus's text format, of all processes that share them.

        May wait, for about a second at most; then raises TimeoutError: they can't be read.
        """
        if not _SHARED:
            return generate_latest(self.registry)
        for _ in range(READ_TRIES):
            text = self._away(_read_shared)
            if text is not None:
                return text
            time.sleep(READ_WAIT_S)
        raise TimeoutError("The counts of the worker processes can't be read.")

    def request(self, method: str, route_template: str, status: int, seconds: float) -> None:
        """Count an HTTP request that was answered after so long."""
        known = method if method in METHODS else OTHER
        self._requests.labels(known, route_template, status).inc()
        self._request_seconds.labels(known, route_template).observe(seconds)

    def committed(self, key: str, committed: Sequence[Committed]) -> None:
        """Count events of the session ``key`` that this process has appended, in their order."""
        counts: dict[type[e.Event], int] = {}
        for each in committed:
            kind = type(each.event)
            counts[kind] = counts.get(kind, 0) + 1
            if kind in FOLLOWED:
                self._follow(key, each)
        for kind, count in counts.items():
            self._events.get(kind, self._other_events).inc(count)

    def batch(self, rows: int, seconds: float, failed: bool) -> None:  # noqa: FBT001 - as it comes
        """Count a group commit of so many rows; ``failed`` when it is not known to be durable."""
        self._commit_rows.observe(rows)
        self._commit_seconds.observe(seconds)
        if failed:
            self._commit_failures.inc()

    def refresh(
        self,
        *,
        sessions_loaded: int,
        runs: int,
        streams_open: int,
        writer_queue: int,
        sessions_followed: int,
    ) -> None:
        """Say how much there is of everything now, in this process."""
        self._sessions_loaded.set(sessions_loaded)
        self._runs_active.set(runs)
        self._streams_open.set(streams_open)
        self._writer_queue.set(writer_queue)
        self._sessions_followed.set(sessions_followed)

    def takeover(self) -> None:
        """Count a session that this process took over from another owner."""
        self._takeovers.inc()

    def inbox_ask(self, seconds: float, outcome: str) -> None:
        """Count a command that another process was asked to carry out, answered after so long."""
        self._inbox_seconds.labels(self._inbox_outcomes.bounded(outcome)).observe(seconds)

    def lease_age(self, seconds: float) -> None:
        """Say how long ago this process renewed its lease."""
        self._lease_age.set(seconds)

    def _counter(self, name: str, means: str, *labels: str) -> Counter:
        return Counter(f"sessiond_{name}", means, labels, registry=self.registry)

    def _histogram(
        self, name: str, means: str, buckets: Sequence[float], *labels: str
    ) -> Histogram:
        name = f"sessiond_{name}"
        return Histogram(name, means, labels, registry=self.registry, buckets=buckets)

    def _gauge(self, name: str, means: str) -> Gauge:
        name = f"sessiond_{name}"
        return Gauge(name, means, registry=self.registry, multiprocess_mode="livesum")

    def _add_http(self) -> None:
        self._requests = self._counter(
            "http_requests_total", "HTTP requests answered.", "method", "route", "status"
        )
        self._request_seconds = self._histogram(
            "http_request_duration_seconds",
            "Time until the answer began.",
            REQUEST_S,
            "method",
            "route",
        )

    def _add_sessions(self) -> None:
        events = self._counter("events_total", "Events of sessions committed.", "type")
        self._events = {kind: events.labels(kind.wire_name) for kind in e.EVENT_TYPES}
        self._other_events = events.labels(OTHER)
        runs = self._counter("runs_total", "Runs that ended.", "outcome")
        seconds = self._histogram(
            "run_duration_seconds", "Time from a run's start to its end.", RUN_S, "outcome"
        )
        self._run_ends = {
            kind: (runs.labels(outcome), seconds.labels(outcome))
            for kind, outcome in RUN_OUTCOMES.items()
        }
        self._tool_calls = self._counter("tool_calls_total", "Tool calls that ended.", "outcome")
        self._tool_outcomes = _Names(OUTCOMES_MAX)
        self._asked = self._counter("approvals_requested_total", "Tool calls asked about.")
        resolved = self._counter(
            "approvals_resolved_total", "Answers to whether a tool may run.", "decision"
        )
        self._resolved = {True: resolved.labels("approved"), False: resolved.labels("denied")}
        self._open_runs: dict[str, _OpenRun] = {}
        self._open_runs_lock = threading.Lock()

    def _add_models(self) -> None:
        self._retries = self._counter("model_retries_total", "Model calls made again.")
        self._tokens = self._counter(
            "model_tokens_total", "Tokens that models took.", "model", "direction"
        )
        self._cost = self._counter("model_cost_usd_total", "What they cost, in USD.", "model")
        self._models = _Names(MODELS_MAX)
        self._spending: dict[str, _Spending] = {}

    def _add_log(self) -> None:
        self._commit_rows = self._histogram(
            "commit_rows", "Rows written by one group commit.", COMMIT_ROWS
        )
        self._commit_seconds = self._histogram(
            "commit_duration_seconds", "Time that a group commit took.", COMMIT_S
        )
        self._commit_failures = self._counter("commit_failures_total", "Group commits that failed.")

    def _add_gauges(self) -> None:
        self._sessions_loaded = self._gauge("sessions_loaded", "Sessions in memory.")
        self._runs_active = self._gauge("runs_active", "Runs in progress.")
        self._streams_open = self._gauge("streams_open", "Open streams and waiting prompts.")
        self._writer_queue = self._gauge("writer_queue", "Writes that wait for a group commit.")
        self._sessions_followed = self._gauge(
            "sessions_followed", "Sessions of other processes that readers here follow."
        )

    def _add_ownership(self) -> None:
        self._takeovers = self._counter(
            "takeovers_total", "Sessions taken over from another process."
        )
        self._inbox_seconds = self._histogram(
            "inbox_ask_duration_seconds",
            "Time that commands to another process took.",
            ASK_S,
            "outcome",
        )
        self._inbox_outcomes = _Names(OUTCOMES_MAX)
        self._lease_age = Gauge(
            "sessiond_lease_age_seconds",
            "Time since the process that is furthest behind renewed its lease.",
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def _follow(self, key: str, committed: Committed) -> None:
        event = committed.event
        match event:
            case e.RunStarted():
                self._open_run(key).started_at = event.at
            case e.TurnStarted() if committed.state.run is not None:  # it may have begun elsewhere
                self._open_run(key).started_at = committed.state.run.started_at
            case e.MessageCompleted(message=AssistantMessage() as message) if message.provider:
                self._open_run(key).model = f"{message.provider}/{message.model_id}"
            case e.TurnEnded() | e.ContextCompacted():
                if event.usage != Usage():
                    self._spent(self._model(key, committed.state), event.usage)
            case e.RunCompleted() | e.RunFailed() | e.RunAborted() | e.RunInterrupted():
                self._run_ended(key, event)
            case e.TurnRetried():
                self._retries.inc()
            case e.ToolCompleted():
                self._tool_calls.labels(self._tool_outcomes.bounded(event.outcome)).inc()
            case e.ApprovalRequested():
                self._asked.inc()
            case e.ApprovalResolved():
                self._resolved[event.approved].inc()

    def _open_run(self, key: str) -> _OpenRun:
        """Return what is remembered of a session's run; the oldest is forgotten for too many."""
        with self._open_runs_lock:
            found = self._open_runs.get(key)
            if found is None:
                if len(self._open_runs) >= OPEN_RUNS_MAX:
                    del self._open_runs[next(iter(self._open_runs))]
                found = self._open_runs[key] = _OpenRun()
            return found

    def _run_ended(
        self, key: str, event: e.RunCompleted | e.RunFailed | e.RunAborted | e.RunInterrupted
    ) -> None:
        with self._open_runs_lock:
            run = self._open_runs.pop(key, None)
        ended, seconds = self._run_ends[type(event)]
        ended.inc()
        if run is not None and run.started_at:
            seconds.observe(max(0, event.at - run.started_at) / 1_000)

    def _model(self, key: str, state: SessionState) -> str:
        """Return the model that answered last, or else the one that the session has chosen."""
        run = self._open_runs.get(key)
        if run is not None and run.model:
            return run.model
        return UNKNOWN if state.model is None else f"{state.model.provider}/{state.model.model_id}"

    def _spent(self, model: str, usage: Usage) -> None:
        name = self._models.bounded(model)
        spending = self._spending.get(name)
        if spending is None:
            spending = self._spending[name] = _Spending(self._tokens, self._cost, name)
        spending.add(usage)


def _read_shared() -> bytes | None:
    """Return what all processes have counted; None while it can't be read."""
    directory = Path(os.environ[DIRECTORY_VARIABLE])
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    with totals_locked(directory, fcntl.LOCK_SH) as held:
        try:
            return generate_latest(registry) if held else None
        except struct.error:  # a worker that starts has a file without a size yet
            return None


@functools.cache
def process_metrics() -> Metrics:
    """Return this process's metrics; the first call, after the fork, makes them."""
    return Metrics()
