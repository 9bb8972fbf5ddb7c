"""Session key -> the actor here: started when needed, stopped when idle."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import pykka

from actors.errors import Draining, SessionNotFound, TooManySessions
from actors.feed import Committed, Feed, Reader
from actors.loaded import Loaded, LoadedSessions, state_in
from actors.log_lines import LogLines
from actors.mailbox import Asked, Message, Passivate, Ready
from actors.origin import Origin
from actors.others import Others, OwnerGone
from actors.replay import stream_of
from actors.runs.conversation import EndedRun, Recent
from actors.runs.launcher import RunLauncher
from actors.runs.run_session import RunSession
from actors.runs.run_worker import RunWorker
from actors.session import commands as c
from actors.session.decide import accepted_before
from actors.session.events import Request
from actors.session.rejections import QueueFull
from actors.session.state import SessionState
from actors.session_actor import SessionActor
from actors.timers import Timers, now_ms
from actors.upkeep import Upkeep, UpkeepSettings
from persistence.errors import LeaseLostError, OwnedElsewhereError, StoreUnavailableError
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.records import Head

ASK_TIMEOUT_S = 60.0
RESTARTS_MAX = 3
RETRY_S = 1.0


class RegistrySettings(UpkeepSettings, Protocol):
    """What the registry reads of the settings."""

    sessions_loaded_max: int
    on_crash: Literal["interrupt", "continue"]


class SessionRegistry:
    """Holds the sessions that are loaded here, and follows those that others own.

    Implements Surroundings for their actors. Without ``others`` this is the only process.
    """

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
        others: Others | None = None,
        now_ms: Callable[[], int] = now_ms,
        observers: Sequence[Callable[[str, Sequence[Committed]], object]] = (),
        took_over: Callable[[], object] = lambda: None,
    ) -> None:
        self._took_over = took_over
        self._observers = (log_lines.follow, *observers)
        self._others = others
        self.log = log
        self.writer = writer
        self.owner = owner
        self.models = launcher.models
        self.log_lines = log_lines
        self._launcher = launcher
        self._timers = timers
        self._settings = settings
        self._now_ms = now_ms
        self._sessions = LoadedSessions(shared=others is not None)
        self.upkeep = Upkeep(self, self._sessions, log, settings)

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._now_ms()

    @property
    def continues_runs(self) -> bool:
        """See Surroundings.continues_runs."""
        return self._settings().on_crash == "continue"

    @property
    def draining(self) -> bool:
        """Tell whether this process is stopping."""
        return self.upkeep.draining

    @property
    def count(self) -> int:
        """Return how many sessions this process owns."""
        return self._sessions.owned_count

    @property
    def followed_count(self) -> int:
        """Return how many sessions this process follows that others own."""
        return self._sessions.followed_count

    @property
    def runs_count(self) -> int:
        """Return how many runs this process works on."""
        return sum(1 for each in self._sessions.owned() if each.works)

    def start(self, primary: str, new_id: Callable[[], str]) -> None:
        """Create the primary session, carry on with unfinished work, begin upkeep."""
        self.ask(primary, c.CreateSession(self.now_ms(), new_id()))
        self.upkeep.start(self._timers, primary)

    def ask(self, key: str, command: c.Command) -> int:
        """Have a session's actor carry out a command, durably, in whichever process it is.

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
                if accepted is None:  # the session was deleted meanwhile, and its keys with it
                    raise StoreUnavailableError(f"Session {key} was deleted meanwhile; try again.")
                prompt_id, seq = accepted.prompt_id, accepted.seq
            if not readers or not self._is_owned(key):  # asked elsewhere, taken over since
                readers.append(self._sessions.follow(key, self.log).feed.reader())
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

    def serve(self, key: str, command: c.Command, origin: Origin) -> int:
        """Carry out what another process was asked; see Owned.serve."""
        if self.draining and not self._is_owned(key):
            raise OwnedElsewhereError(stream_of(key), "nobody yet")
        return self.ask_here(key, Asked(command, origin))

    def _ask(
        self,
        key: str,
        command: c.Command,
        before: Callable[[Loaded], object] = lambda _loaded: None,
    ) -> int:
        for _attempt in range(RESTARTS_MAX):
            owner = None
            if self._others is not None and not self._is_owned(key):
                owner = self._others.owner(key)
            try:
                if self._others is not None and owner is not None:
                    return self._others.ask(owner, key, command)
                return self.ask_here(key, command, before)
            except (OwnedElsewhereError, LeaseLostError):
                continue  # somebody was ahead, and nothing is written
            except OwnerGone as gone:
                seq = self._settle(key, gone)
                if seq is not None:
                    return seq
        raise StoreUnavailableError(f"Session {key} goes from process to process; try again.")

    def _settle(self, key: str, gone: OwnerGone) -> int | None:
        """Take the session from an owner that has died; return what it still did, None: nothing.

        Nothing more can come of a question once somebody else owns the session.
        """
        assert self._others is not None
        try:
            self.ask_here(key, Ready())
        except OwnedElsewhereError as error:
            if error.owner == gone.owner:  # it lives, and may be about to answer
                raise StoreUnavailableError(f"Session {key} does not answer.") from error
        return self._others.settle(gone.question)

    def ask_here(
        self,
        key: str,
        message: Message,
        before: Callable[[Loaded], object] = lambda _loaded: None,
    ) -> int:
        """Ask a session's actor in this process. Raises OwnedElsewhereError, or as ``ask``."""
        for _attempt in range(RESTARTS_MAX):
            loaded = self.load(key)
            before(loaded)
            ref = loaded.ref
            if ref is None:  # it has stopped since
                continue
            try:
                seq: int = ref.ask(message, block=True, timeout=ASK_TIMEOUT_S)
                return seq
            except pykka.ActorDeadError:  # it stopped in this moment: the next one answers
                self._leave(loaded, ref)
            except OwnedElsewhereError:
                self._leave(loaded, ref)
                raise
            except pykka.Timeout as error:
                raise StoreUnavailableError(f"Session {key} does not answer.") from error
        raise StoreUnavailableError(f"Session {key} can't be kept loaded.")

    def state(self, key: str) -> SessionState:
        """Return a session's newest committed state. Raises SessionNotFound.

        Answers from the feed of a session that is owned here, from the log otherwise; never
        waits for the actor.
        """
        loaded = self._sessions.get(key)
        state = None if loaded is None else loaded.feed.state
        if loaded is None or state is None or not (loaded.owned and self._is_sure):
            head = self.log.head(stream_of(key))
            if head is None:
                raise SessionNotFound(key)
            state = state_in(self.log, head, state)
        if not state.exists:
            raise SessionNotFound(key)
        return state

    def reader(self, key: str) -> tuple[SessionState, Reader]:
        """Return an existing session's newest state, and a reader of what follows it.

        Raises SessionNotFound or Draining.
        """
        if self.draining:
            raise Draining
        self.state(key)  # raises before anything is loaded for a session that is not there
        loaded = self._readable(key)
        reader = loaded.feed.reader()
        state = loaded.feed.state
        assert state is not None
        reader.after = state.version
        return state, reader

    def _readable(self, key: str) -> Loaded:
        """Return a session that has its state, from its actor here or followed in the log."""
        for _attempt in range(RESTARTS_MAX):
            if self._others is not None:
                loaded = self._sessions.follow(key, self.log)
            else:
                loaded = self.load(key)
            if loaded.feed.state is not None:
                return loaded
            found: list[Loaded] = []
            with contextlib.suppress(OwnedElsewhereError, LeaseLostError):  # then it is followed
                self.ask_here(key, Ready(), found.append)
                return found[-1]  # the one that answered
        raise StoreUnavailableError(f"Session {key} goes from process to process; try again.")

    def _is_owned(self, key: str) -> bool:
        loaded = self._sessions.get(key)
        return loaded is not None and loaded.owned

    @property
    def _is_sure(self) -> bool:
        """Tell whether what this process owns is surely its own still."""
        return self._others is None or self._others.sure

    def compact(
        self, key: str, principal: str, request: Request | None = None
    ) -> c.Compaction | None:
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
                self.now_ms(),
                compaction,
                state.context_seq,
                principal=principal,
                request=request,
            )
            self.ask(key, command)
        return compaction

    def committed(self, key: str, committed: Sequence[Committed]) -> None:
        """See Surroundings.committed."""
        for observe in self._observers:
            observe(key, committed)

    def took_over(self, key: str) -> None:
        """See Surroundings.took_over."""
        self.log_lines.add(f"[session] session={key} carried on")
        self._took_over()

    def start_run(
        self,
        actor: pykka.ActorRef[SessionActor],
        head: Head,
        state: SessionState,
        recent: Recent,
    ) -> RunWorker:
        """Begin to work on the state's run, or go on with it, on a thread of its own."""
        return self._launcher.start(RunSession(actor), head, state, recent, self._now_ms)

    def run_ended(self, ended: EndedRun) -> None:
        """Have the run remembered."""
        self._launcher.run_ended(ended)

    def gone(self, key: str, actor: pykka.ActorRef[SessionActor], *, failed: bool) -> None:
        """Forget an actor that has stopped; after a failure carry on with its work soon."""
        loaded = self._sessions.get(key)
        if loaded is None or loaded.ref != actor:
            return
        self._leave(loaded, actor)
        state = loaded.feed.state
        if failed and not self.draining and state is not None and not state.idle:
            self._timers.after(RETRY_S, lambda: self.load(key))

    def load(self, key: str) -> Loaded:
        """Return a session with its actor, which may yet find that another process owns it."""
        return self._sessions.start(key, lambda feed: self._started(key, feed))

    def _started(self, key: str, feed: Feed) -> pykka.ActorRef[SessionActor]:
        self._make_room()
        return SessionActor.start(key, feed, self)

    def _leave(self, loaded: Loaded, actor: pykka.ActorRef[SessionActor]) -> None:
        self._sessions.leave(loaded, actor, keep=not self.draining)

    def _make_room(self) -> None:
        limit = self._settings().sessions_loaded_max
        if self._sessions.owned_count < limit:
            return
        for loaded in sorted(self._sessions.owned(), key=lambda each: each.used):
            state = loaded.feed.state
            if state is not None and state.idle and not loaded.feed.has_readers:
                loaded.tell(Passivate())
                break
        raise TooManySessions(limit)
