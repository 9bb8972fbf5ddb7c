"""What is configured of MCP servers, and what is told of them."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from actors.tools.base import Effect

McpState = Literal["starting", "ready", "restarting", "down", "closed"]


class McpServerSettings(Protocol):
    """What the configuration says of a server: it has either a command or a URL."""

    @property
    def name(self) -> str:
        """Return what its tools' names begin with."""

    @property
    def command(self) -> Sequence[str] | None:
        """Return a program and its arguments; it speaks over its standard streams."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables that the process gets, besides PATH; PATH may be among them."""

    @property
    def url(self) -> str | None:
        """Return where it speaks streamable HTTP."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return what is sent with each request."""

    @property
    def effect(self) -> Effect:
        """Return what its tools are taken to do."""

    @property
    def tool_timeout_s(self) -> float:
        """Return how long a call may take."""


class McpLimits(Struct, frozen=True):
    """How long a server may take, how much it may offer, and how often it is started again."""

    restarts_max: int = 5
    restart_window_s: float = 300.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    connect_timeout_s: float = 30.0
    ready_timeout_s: float = 10.0
    look_every_s: float = 60.0
    tools_max: int = 128


class McpStatus(Struct, frozen=True):
    """How a server is; one that is ``down`` was started too often, and rests."""

    name: str
    state: McpState
    tools: int = 0
    restarts: int = 0
    error: str = ""


class Restarts:
    """Says when a server may be started again: ``restarts_max`` times within the window."""

    def __init__(self, limits: McpLimits) -> None:
        self._limits = limits
        self._due: deque[float] = deque()

    def next(self, now_s: float) -> tuple[float, bool]:
        """Return how long to wait, and whether that is because it was started too often."""
        limits, due = self._limits, self._due
        while due and due[0] <= now_s - limits.restart_window_s:
            due.popleft()
        down = len(due) >= limits.restarts_max
        if down:
            wait_s = (
                due.popleft() + limits.restart_window_s - now_s if due else limits.restart_window_s
            )
        else:
            wait_s = min(limits.backoff_first_s * 2 ** len(due), limits.backoff_max_s)
        due.append(now_s + wait_s)
        return wait_s, down
