"""Real actors over a real (in-memory) log, for tests: only the settings are small."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from msgspec import Struct

from actors.feed import Committed
from actors.log_lines import LogLines
from actors.models.base import Model, ModelRequest, ModelStream
from actors.models.catalog import ConfiguredModel, ModelCatalog
from actors.registry import SessionRegistry
from actors.runs.conversation import EndedRun
from actors.runs.launcher import RunLauncher, RunMemory
from actors.runs.tracing import NO_TRACER, Tracer
from actors.session import commands as c
from actors.session.events import Request
from actors.session.messages import Message
from actors.session.state import Run
from actors.tail import Tail
from actors.timers import Timers
from actors.tools.base import Tool
from actors.tools.policy import ToolRule
from actors.tools.registry import ToolRegistry
from actors.tools.toolbox import Toolbox
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.in_memory import InMemoryEventLog

DEADLINE_S = 60.0


class WorldSettings(Struct):
    model: str | None = None
    models: tuple[ConfiguredModel, ...] = ()
    demo_deltas: int = 0
    demo_delay_ms: int = 0
    model_stall_timeout_s: float = 5
    idle_minutes: float = 60
    sessions_loaded_max: int = 1_000
    run_timeout_s: float = 60
    run_turns_max: int = 5
    model_retries_max: int = 2
    model_retry_delay_s: float = 0.01
    system_prompt: str = ""
    tool_timeout_s: float = 5
    tool_output_chars_max: int = 2_000
    approval_timeout_s: float = 60
    on_crash: Literal["interrupt", "continue"] = "interrupt"


class World:
    """A process's worth of sessions. ``models`` can be given by a test."""

    def __init__(
        self,
        log: EventLog | None = None,
        settings: WorldSettings | None = None,
        owner: str = "me",
        *,
        memory: RunMemory | None = None,
        tools: Sequence[Tool] = (),
        rules: Sequence[ToolRule] = (),
        folder: Path = Path("there is none"),
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self.log = log or InMemoryEventLog()
        self.settings = settings or WorldSettings()
        self.timers = Timers()
        self.timers.start()
        self.writer = GroupCommit(self.log)
        self.writer.start()
        self._ids = itertools.count(1)
        launcher = RunLauncher(
            self.log,
            ModelCatalog(self.settings, {}),
            memory or NoMemory(),
            Toolbox(
                ToolRegistry(tools, level="all"),
                rules,
                folder,
                lambda: self.settings,
                sandboxed=True,
            ),
            self.timers,
            lambda: self.settings,
            lambda: f"id{next(self._ids)}",
            tracer,
        )
        self.registry = SessionRegistry(
            self.log,
            self.writer,
            launcher,
            self.timers,
            LogLines(lambda: False),
            lambda: self.settings,
            owner=owner,
            observers=[tracer.committed],
        )

    def prompt(
        self,
        key: str,
        text: str,
        queue_max: int = 8,
        principal: str = "tester",
        request: Request | None = None,
    ) -> "Watch":
        prompt_id = f"p{next(self._ids)}"
        command = c.QueuePrompt(
            self.registry.now_ms(),
            f"id of {key}",
            prompt_id,
            text,
            "test",
            queue_max,
            principal=principal,
            request=request,
        )
        _, reader = self.registry.prompt(key, command)
        return Watch(prompt_id, Tail(self.log, key, reader))

    def close(self) -> None:
        self.registry.upkeep.drain(0)
        self.timers.close()
        self.writer.close()


class NoMemory:
    """Remembers nothing. Implements RunMemory."""

    def recaller(self, key: str, run: Run) -> Callable[[Model, Sequence[Message]], str]:
        return lambda _model, _messages: ""

    def run_ended(self, ended: EndedRun) -> None:
        """Forget it."""


class Watch:
    """Follows what a prompt leads to."""

    def __init__(self, prompt_id: str, tail: Tail) -> None:
        self.prompt_id = prompt_id
        self.seen: list[Committed] = []
        self._tail = tail

    def until(self, wire_name: str) -> Committed:
        """Wait for the first event of that name, of this prompt where it names one."""
        deadline = time.monotonic() + DEADLINE_S
        checked = 0
        while True:
            for committed in self.seen[checked:]:
                checked += 1
                if committed.event.wire_name == wire_name and self._mine(committed):
                    return committed
            left = deadline - time.monotonic()
            assert left > 0, f"no {wire_name} among {self.names}"
            self.seen.extend(self._tail.next(left))

    @property
    def names(self) -> list[str]:
        return [committed.event.wire_name for committed in self.seen]

    def close(self) -> None:
        self._tail.close()

    def _mine(self, committed: Committed) -> bool:
        return getattr(committed.event, "prompt_id", self.prompt_id) == self.prompt_id


class HeldModel:
    """A model that answers when the test lets it. Implements Model."""

    provider = "held"
    model_id = "held"
    context_tokens = 1_000
    address = ""
    remembers = False

    def __init__(self, inner: Model) -> None:
        self.requests: list[ModelRequest] = []
        self.release = threading.Event()
        self._inner = inner

    @contextmanager
    def stream(self, request: ModelRequest) -> Iterator[ModelStream]:
        self.requests.append(request)
        assert self.release.wait(DEADLINE_S)
        with self._inner.stream(request) as stream:
            yield stream


def eventually(what: Callable[[], bool]) -> None:
    """Wait until it is so, or fail."""
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.005)
