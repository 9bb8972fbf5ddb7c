"""One process: the real registry, upkeep and ownership over simulated connections and clocks."""

import random
import traceback
from collections.abc import Callable
from typing import Any, Literal, cast

import pykka
from msgspec import Struct

from actors import asking
from actors.asking import Moved
from actors.errors import Draining, SessionNotFound, TooManySessions
from actors.feed import Feed
from actors.log_lines import LogLines
from actors.others import OwnerGone, Questions
from actors.ownership import Ownership
from actors.registry import SessionRegistry
from actors.replay import stream_of
from actors.runs.conversation import EndedRun, Recent
from actors.runs.run_session import RunSession
from actors.session import commands as c
from actors.session.rejections import Rejection
from actors.session.state import SessionState
from actors.session_actor import SessionActor
from persistence.errors import PersistenceError, StoreUnavailableError
from persistence.records import Head
from tests.simulator.actor import SimActor
from tests.simulator.database import InboxClient, LeaseClient, View, Writer
from tests.simulator.run_worker import ScriptedWorker
from tests.simulator.scheduler import Scheduler, Task, wait
from tests.simulator.store import LEASE_US, Store

RENEW_US = LEASE_US // 5
REFUSALS = (
    Rejection,
    PersistenceError,
    TooManySessions,
    SessionNotFound,
    Draining,
    pykka.Timeout,
)
"""What a client is answered with a status of its own; anything else would be a 500."""


class Settings(Struct):
    on_crash: Literal["interrupt", "continue"]
    sessions_loaded_max: int = 100
    idle_minutes: float = 60
    run_timeout_s: float = 600


class Response:
    """What a client waits for; ``lost`` when the process died or the client gave up."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        self.done = False
        self.lost = False

    def ready(self) -> bool:
        return self.done or self.lost


class Look:
    """What an asker waits for: an answer, or that nobody is there to give one."""

    def __init__(self, inbox: Any, question: int, owner: str) -> None:
        self.expired = False
        self._inbox = inbox
        self._question = question
        self._owner = owner

    def ready(self) -> bool:
        return self.expired or self._inbox.is_over(self._question, self._owner)


class SimQuestions(Questions):
    """Waits by the scheduler; otherwise as in production."""

    def ask(self, owner: str, key: str, command: c.Command) -> int:
        body = asking.encode_command(command)
        question = self._inbox.put(owner, stream_of(key), body)
        look = Look(self._inbox, question, owner)
        wait(look)
        outcome = self._outcome(question)
        if isinstance(outcome, Moved) or (outcome is None and not look.expired):
            raise OwnerGone(question, owner)
        if outcome is None:
            raise StoreUnavailableError(f"Session {key} does not answer.")
        return asking.seq_of(outcome)


class SimRegistry(SessionRegistry):
    """Starts actors as tasks."""

    def _started(self, key: str, feed: Feed) -> pykka.ActorRef[SessionActor]:
        self._make_room()
        return cast("pykka.ActorRef[SessionActor]", SimActor.start(key, feed, self))


class SimOwnership(Ownership):
    """The real one, without its thread; the process says what is due."""

    process: "Process"

    @property
    def lease_age_s(self) -> float:
        return (self.process.monotonic_us() - self.process.renewed_us) / 1_000_000

    def resign(self) -> None:
        """End the lease as the last thing."""
        try:
            self._leases.resign()
        except StoreUnavailableError:
            return

    def due(self, name: str) -> None:
        """Do what the thread does when it is due, and reconnect when that fails."""
        began = self.process.monotonic_us()
        try:
            {"renew": self._renew, "take over": self._take_over, "look": self._look_around}[name]()
            if name == "renew":
                self.process.renewed_us = began
        except StoreUnavailableError:
            self.reconnect()

    def notice(self, notice: Any) -> None:
        """Take a notice."""
        try:
            self._take(notice)
        except StoreUnavailableError:
            self.reconnect()

    def reconnect(self) -> None:
        """Take the lease anew, and look at what is owned."""
        try:
            self._leases.connect()
            self.process.renewed_us = self.process.monotonic_us()
            self._require_owned().check_owned(None)
        except StoreUnavailableError:
            return

    def wire(self, process: "Process") -> None:
        """Set what ``start`` would."""
        self.process = process
        self._pool.shutdown()
        self._pool = cast("Any", Pool(process))
        self._owned, self._serve_command = process.registry.upkeep, process.registry.serve


class Pool:
    """Stands in for the pool that serves messages."""

    def __init__(self, process: "Process") -> None:
        self._process = process

    def submit(self, call: Callable[..., object], *args: Any) -> None:
        self._process.spawn(f"serves {args[0].id}", lambda: call(*args))


class Process:
    """A process; ``random`` scripts its runs. Implements scheduler.Host and database.Client."""

    def __init__(
        self,
        name: str,
        store: Store,
        scheduler: Scheduler,
        rng: random.Random,
        settings: Settings,
        world: Any,
    ) -> None:
        self.name = name
        self.paused = False
        self.connected = True
        self.dead = False
        self.leaving = False
        self.exits = False
        self.skew_ms = 0
        self.wakes_at = 0
        self.reconnects_at = 0
        self.renewed_us = 0
        self.busy: Task | None = None
        self.timers: list[Callable[[], object]] = []
        self.responses: list[Response] = []
        self.replies: list[Any] = []
        self.models = None
        self.store = store
        self.rng = rng
        self.world = world
        self._scheduler = scheduler
        self.view = View(store, self)
        self.writer = Writer(store, self)
        inbox = cast("Any", InboxClient(store, self, self.view))
        view, lines = cast("Any", self.view), LogLines(lambda: False, self.now_ms)
        self.ownership = SimOwnership(
            cast("Any", LeaseClient(store, self, self.view)),
            inbox,
            SimQuestions(view, inbox, name),
            lease_s=LEASE_US / 1_000_000,
            watches=(),
            log_lines=lines,
        )
        self.registry = SimRegistry(
            view,
            cast("Any", self.writer),
            cast("Any", self),
            cast("Any", self),
            lines,
            lambda: settings,
            owner=name,
            others=self.ownership,
            now_ms=self.now_ms,
        )
        self.ownership.wire(self)
        self.ownership.reconnect()

    def __str__(self) -> str:
        return self.name

    def trace(self, line: str) -> None:
        """Note what the process did."""
        self.world.trace(f"{self.name} {line}")

    def count(self, what: str) -> None:
        """Count it, for the table of coverage."""
        self.world.count(what)

    def now_ms(self) -> int:
        """Return the time by this process's clock, which may be wrong and jump."""
        return self.store.now_us // 1000 + self.skew_ms

    def monotonic_us(self) -> int:
        """Return the time since some moment; it does not jump."""
        return int(self.world.elapsed_us)

    @property
    def serves(self) -> bool:
        """Tell whether it goes on by itself now."""
        return not self.dead and not self.paused

    def spawn(self, name: str, call: Callable[[], object]) -> Task:
        """Begin a task of this process."""
        return self._scheduler.spawn(f"{self.name} {name}", call, self)

    def after(self, _delay_s: float, call: Callable[[], object]) -> None:
        """Stand in for Timers: the scheduler says when the time has come."""
        self.timers.append(call)

    def start(
        self,
        session: RunSession,
        head: Head,
        state: SessionState,
        recent: Recent,
        now_ms: Callable[[], int],
    ) -> ScriptedWorker:
        """Stand in for RunLauncher."""
        return ScriptedWorker(self, session, head, state)

    def run_ended(self, ended: EndedRun) -> None:
        """See RunLauncher.run_ended."""

    def request(self, name: str, call: Callable[[], object]) -> Response:
        """Have a call served as a client's request."""
        response = Response()
        if self.dead:
            response.lost = True
            return response
        self.responses.append(response)

        def serve() -> None:
            try:
                response.value = call()
            except REFUSALS as error:
                response.error = error
            except Exception as error:
                if isinstance(error, AssertionError) and error.args:  # the checker's own
                    raise
                frame = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{error!r} in {frame.name}: {frame.line}"
                self.world.fail(f"{self.name} {name}: a 500, {where}")
            response.done = True
            if response in self.responses:
                self.responses.remove(response)

        self.spawn(name, serve)
        return response

    def crash(self) -> None:
        """Lose everything in memory."""
        self.dead = True
        self.world.living.remove(self)
        self.store.locks.discard(self.name)
        for response in self.responses:
            response.lost = True
        self.timers.clear()
        self._scheduler.kill(self)
