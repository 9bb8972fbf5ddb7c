"""Session key -> the actor here: started when needed, stopped when idle."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import pykka

from actors.feed import Feed, Reader
from actors.log_lines import LogLines
from actors.replay import STREAM_PREFIX, state_at, stream_of
from actors.runs.conversation import EndedRun, Recent
from actors.runs.launcher import RunLauncher
from actors.runs.link import VOID, Reported
from actors.runs.run_worker import RunWorker
from actors.session import commands as c
from actors.session.decide import accepted_before
from actors.session.rejections import QueueFull
from actors.session.state import SessionState
from actors.session_actor import Passivate, Ready, Report, Reports, SessionActor
from actors.timers import Timers, now_ms
from persistence.errors import StoreUnavailableError
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.records import Head

ASK_TIMEOUT_S = 60.0
RESTARTS_MAX = 3
RETRY_S = 1.0
DRAIN_POLL_S = 0.02
SWEEP_S = 60.0
OVERDUE_S = 1.0

logger = logging.getLogger(__name__)


class SessionNotFound(Exception):
    """The log holds no such session."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Session not found: {key}")


class Draining(Exception):
    """This process is stopping and takes no new prompts."""

    def __init__(self) -> None:
        super().__init__("The gateway is stopping; try again.")


class TooManySessions(Exception):
    """As many sessions as allowed are loaded, and none is idle."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} sessions are loaded; try again.")


class RegistrySettings(Protocol):
    """What the registry reads of the settings."""

    idle_minutes: float
    sessions_loaded_max: int
    run_timeout_s: float


class Loaded:
    """A session's actor in this process, and its feed."""

    __slots__ = ("feed", "ref", "used")

    def __init__(self, ref: pykka.ActorRef[SessionActor], feed: Feed) -> None:
        self.ref = ref
        self.feed = feed
        self.used = time.monotonic()


class SessionRegistry:
    """Holds the sessions that are loaded here. Implements Surroundings for their actors."""

    def __init__(
        self,
        log: EventLog,
        writer: GroupCommit,
        launcher: RunLauncher,
        timers: Timers,
        log_lines: LogLines,
        settings: Callable[[], RegistrySettings],
        *,
        owner: str,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.log = log
        self.writer = writer
        self.owner = owner
        self.models = launcher.models
        self.log_lines = log_lines
        self._launcher = launcher
        self.draining = False
        self._timers = timers
        self._settings = settings
        self._now_ms = now_ms
        self._loaded: dict[str, Loaded] = {}
        self._lock = threading.Lock()

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._now_ms()

    def start(self, primary: str, new_id: Callable[[], str]) -> None:
        """Create the primary session, carry on with unfinished work, begin to sweep."""
        self.ask(primary, c.CreateSession(self.now_ms(), new_id()))
        self.carry_on()
        self._timers.every(SWEEP_S, lambda: self.sweep(primary))
        self._timers.every(SWEEP_S, self.carry_on)
        self._timers.every(OVERDUE_S, self.end_overdue)

    def ask(self, key: str, command: c.Command) -> int:
        """Have the session's actor carry out a command, durably; load the session if needed.

        Returns the seq of the first event that it led to, 0 for none. Raises Rejection,
        TooManySessions or PersistenceError.
        """
        return self._ask(key, command)

    def prompt(self, key: str, command: c.QueuePrompt) -> tuple[str, Reader]:
        """Queue a prompt; return its id, and a reader that has all it leads to before it.

        A prompt whose idempotency key came before is that prompt. Raises Draining, or what
        ``ask`` raises.
        """
        if self.draining:
            raise Draining
        readers: list[Reader] = []
        try:
            seq = self._ask(key, command, lambda loaded: readers.append(loaded.feed.reader()))
            prompt_id = command.prompt_id
            if seq == 0:
                accepted = accepted_before(self.state(key), command.idempotency_key)
                assert accepted is not None
                prompt_id, seq = accepted.prompt_id, accepted.seq
        except BaseException as error:
            for reader in readers:
                reader.close()
            if isinstance(error, QueueFull):
                self.log_lines.add(f"[queue] session={key} queue full ({error.pending})", "warning")
            raise
        *left, reader = readers
        for each in left:  # of actors that stopped before they could answer
            each.close()
        reader.after = seq - 1
        return prompt_id, reader

    def _ask(
        self,
        key: str,
        message: c.Command | Ready,
        before: Callable[[Loaded], object] = lambda _loaded: None,
    ) -> int:
        for _attempt in range(RESTARTS_MAX):
            loaded = self._load(key)
            before(loaded)
            try:
                seq: int = loaded.ref.ask(message, block=True, timeout=ASK_TIMEOUT_S)
                return seq
            except pykka.ActorDeadError:  # it stopped in this moment: the next one answers
                self._forget(key, loaded)
            except pykka.Timeout as error:
                raise StoreUnavailableError(f"Session {key} does not answer.") from error
        raise StoreUnavailableError(f"Session {key} can't be kept loaded.")

    def state(self, key: str) -> SessionState:
        """Return a session's newest committed state. Raises SessionNotFound.

        Answers from the feed of a loaded session, from the log otherwise; never waits for the
        actor.
        """
        loaded = self._loaded.get(key)
        state = None if loaded is None else loaded.feed.state
        if state is None:
            head = self.log.head(stream_of(key))
            if head is None:
                raise SessionNotFound(key)
            state = state_at(self.log, head)
        if not state.exists:
            raise SessionNotFound(key)
        return state

    def compact(self, key: str, principal: str) -> c.Compaction | None:
        """Have a summary stand for a session's older messages; None where there are none.

        Blocks while the session's model answers. Raises SessionNotFound, ModelError, Rejection
        when the context has changed meanwhile, or PersistenceError.
        """
        state = self.state(key)
        head = self.log.head(stream_of(key))
        assert head is not None
        compaction = self._launcher.compact(head, state)
        if compaction is not None:
            command = c.CompactContext(
                self.now_ms(), compaction, state.context_seq, principal=principal
            )
            self._ask(key, command)
        return compaction

    def reader(self, key: str) -> tuple[SessionState, Reader]:
        """Return an existing session's newest state, and a reader of what follows it.

        Raises SessionNotFound or Draining.
        """
        if self.draining:
            raise Draining
        self.state(key)  # raises before an actor is started for a session that is not there
        loaded = self._load(key)
        if loaded.feed.state is None:
            self._ask(key, Ready())
        reader = loaded.feed.reader()
        state = loaded.feed.state
        assert state is not None
        reader.after = state.version
        return state, reader

    @property
    def count(self) -> int:
        """Return how many sessions are loaded."""
        return len(self._loaded)

    def carry_on(self) -> None:
        """Load the sessions that have unfinished work, as many as there is room for."""
        for stream_id in self.log.active(STREAM_PREFIX):
            try:
                self._load(stream_id.removeprefix(STREAM_PREFIX))
            except TooManySessions:
                return  # the next call goes on

    def sweep(self, primary: str) -> None:
        """Let the sessions go that nobody has used for the idle time."""
        limit = time.monotonic() - self._settings().idle_minutes * 60
        for key, loaded in list(self._loaded.items()):
            if key != primary and loaded.used <= limit:
                with contextlib.suppress(pykka.ActorDeadError):
                    loaded.ref.tell(Passivate())

    def end_overdue(self) -> None:
        """Fail the runs that have taken longer than a run may; deny what nobody answers.

        The time that a run waits for approvals does not count.
        """
        limit_s = self._settings().run_timeout_s
        now = self.now_ms()
        for loaded in list(self._loaded.values()):
            state = loaded.feed.state
            run = None if state is None else state.run
            if state is None or run is None:
                continue
            if state.pending:
                if any(each.expires_at <= now for each in state.pending):
                    _tell(loaded, c.ExpireApprovals(now))
            elif now - run.started_at - run.waited_ms > limit_s * 1000:
                error = f"The run took more than {limit_s:g} s."
                _tell(loaded, c.FailRun(now, run.prompt_id, error))

    def drain(self, grace_s: float) -> None:
        """Begin nothing new, give what runs ``grace_s`` to end, interrupt the rest.

        Blocks until all of that is in the log. Prompts that wait stay in the queue, and what
        waits for an approval goes on waiting: the next process has it.
        """
        self.draining = True
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and any(
            _works(loaded.feed.state) for loaded in list(self._loaded.values())
        ):
            time.sleep(DRAIN_POLL_S)
        for key, loaded in list(self._loaded.items()):
            if _works(loaded.feed.state):
                command = c.InterruptRun(self.now_ms(), "The gateway is stopping.")
                with contextlib.suppress(Exception):  # the next owner closes it otherwise
                    self.ask(key, command)
            loaded.feed.close()

    def start_run(
        self,
        actor: pykka.ActorRef[SessionActor],
        head: Head,
        state: SessionState,
        recent: Recent,
    ) -> RunWorker:
        """Begin to work on the state's run, or go on with it, on a thread of its own."""
        return self._launcher.start(_RunSession(actor), head, state, recent, self._now_ms)

    def run_ended(self, ended: EndedRun) -> None:
        """Have the run remembered."""
        self._launcher.run_ended(ended)

    def gone(self, key: str, actor: pykka.ActorRef[SessionActor], *, failed: bool) -> None:
        """Forget an actor that has stopped; after a failure carry on with its work soon."""
        loaded = self._loaded.get(key)
        if loaded is None or loaded.ref != actor:
            return
        self._forget(key, loaded)
        state = loaded.feed.state
        if failed and not self.draining and state is not None and not state.idle:
            self._timers.after(RETRY_S, lambda: self._load(key))

    def _load(self, key: str) -> Loaded:
        loaded = self._loaded.get(key)
        if loaded is None:
            with self._lock:
                loaded = self._loaded.get(key)
                if loaded is None:
                    self._make_room()
                    feed = Feed()
                    loaded = Loaded(SessionActor.start(key, feed, self), feed)
                    self._loaded[key] = loaded
        loaded.used = time.monotonic()
        return loaded

    def _make_room(self) -> None:
        limit = self._settings().sessions_loaded_max
        if len(self._loaded) < limit:
            return
        for loaded in sorted(self._loaded.values(), key=lambda each: each.used):
            state = loaded.feed.state
            if state is not None and state.idle and not loaded.feed.has_readers:
                loaded.ref.tell(Passivate())
                break
        raise TooManySessions(limit)

    def _forget(self, key: str, loaded: Loaded) -> None:
        with self._lock:
            if self._loaded.get(key) is loaded:
                del self._loaded[key]


def _works(state: SessionState | None) -> bool:
    """Tell whether something of the session runs that would be lost."""
    return state is not None and state.processing and not state.resumable


def _tell(loaded: Loaded, command: c.Command) -> None:
    with contextlib.suppress(pykka.ActorDeadError):
        loaded.ref.tell(command)


class _RunSession:
    """A session's actor, as its run sees it. Implements run_worker.Session."""

    def __init__(self, actor: pykka.ActorRef[SessionActor]) -> None:
        self._actor = actor
        self._lock = threading.Lock()
        self._reports: list[Report] = []

    def report(self, command: c.RunCommand, done: Callable[[Reported], None]) -> None:
        with self._lock:
            self._reports.append(Report(command, done))
            if len(self._reports) > 1:  # the actor has been told and will take this one too
                return
        try:
            self._actor.tell(Reports(self._take))
        except pykka.ActorDeadError:
            for report in self._take():
                report.done(VOID)

    def _take(self) -> list[Report]:
        with self._lock:
            reports, self._reports = self._reports, []
            return reports
