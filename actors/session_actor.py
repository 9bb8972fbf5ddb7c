"""One session's actor: decide, append, install, publish; nothing else."""

import contextlib
import logging
from collections.abc import Sequence
from typing import Protocol

import pykka

from actors.asking import Done, encode_outcome
from actors.erasures import erases_all, erasures_of
from actors.feed import Committed, Feed
from actors.log_lines import LogLines
from actors.mailbox import (
    Asked,
    CheckOwned,
    LetGo,
    Message,
    Passivate,
    Report,
    Reports,
)
from actors.origin import Origin
from actors.replay import CODEC, entry_of, snapshot_of, state_at, stream_of
from actors.runs.conversation import Conversation, EndedRun, Recent
from actors.runs.link import VOID, Reported
from actors.session import commands as c
from actors.session.decide import decide
from actors.session.events import RUN_ENDS, Event, RunStarted, attributed
from actors.session.evolve import evolve, fold
from actors.session.state import SessionState
from persistence.errors import OwnedElsewhereError, PersistenceError
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.records import (
    Answer,
    Append,
    Claim,
    Head,
    NewEvent,
    Release,
    Snapshot,
)

SNAPSHOT_EVERY_EVENTS = 1_000
PROCESS_ENDED = "The process that ran it ended."

logger = logging.getLogger(__name__)


class RunHandle(Protocol):
    """A run in progress, as its session's actor sees it."""

    def cancel(self) -> None:
        """Stop working on the run; must not block."""


class Surroundings(Protocol):
    """What a session's actor needs of the process it lives in."""

    log: EventLog
    writer: GroupCommit
    log_lines: LogLines
    owner: str
    draining: bool

    @property
    def continues_runs(self) -> bool:
        """Tell whether a run whose process ended goes on, or else is closed."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""

    def committed(self, key: str, committed: Sequence[Committed]) -> None:
        """Take note of events that are durable; must not block."""

    def took_over(self, key: str) -> None:
        """Take note that a session with unfinished work is here now; must not block."""

    def start_run(
        self,
        actor: "pykka.ActorRef[SessionActor]",
        head: Head,
        state: SessionState,
        recent: Recent,
    ) -> RunHandle:
        """Begin to work on the state's run; ``head`` is where the log ends with that state."""

    def run_ended(self, ended: EndedRun) -> None:
        """Take note that a run is over; must not block."""

    def gone(self, key: str, actor: "pykka.ActorRef[SessionActor]", *, failed: bool) -> None:
        """Take note that the actor has stopped; the feed is for whoever comes next, or to close."""


class SessionActor(pykka.ThreadingActor):
    """Serialises everything that happens to one session.

    A command is answered with the seq of the first event that it led to (0: none), once that is
    durable, or raises Rejection or PersistenceError. After an append that failed the actor
    stops: what the log holds is then unknown, and the next actor reads it anew.
    """

    use_daemon_thread = True

    def __init__(self, key: str, feed: Feed, surroundings: Surroundings) -> None:
        super().__init__()
        self._key = key
        self._feed = feed
        self._around = surroundings
        self._head: Head | None = None
        self._state = SessionState(key)
        self._conversation = Conversation(since=0)
        self._run: RunHandle | None = None
        self._broken: PersistenceError | None = None

    def on_start(self) -> None:
        """Load the session and carry on where its last owner stopped."""
        try:
            claim = Claim(stream_of(self._key), self._around.owner)
            self._head = self._around.writer.submit(claim).result()
            self._state = state_at(self._around.log, self._head)
            self._conversation = Conversation(since=self._state.version)
            self._feed.install(self._state, self._head.row)
            self._carry_on()
        except PersistenceError as error:
            if not isinstance(error, OwnedElsewhereError):
                logger.exception("Session %s can't be loaded.", self._key)
            self._broken = error  # what waits in the inbox gets this error, then comes the stop
            self.stop()

    def _carry_on(self) -> None:
        """Go on with a run that only waits for approvals, or as the settings say with any other."""
        state = self._state
        if not state.idle:
            self._around.took_over(self._key)
        if state.run is not None and state.resumable:
            if not state.pending:
                self._start_run(Recent((), state.version))
        elif not state.idle:
            kind = c.ContinueRun if self._around.continues_runs else c.InterruptRun
            self._execute([kind(self._around.now_ms(), PROCESS_ENDED)])
            if self._state.run is not None and self._run is None:
                self._start_run(Recent((), self._state.version))

    def on_receive(self, message: Message) -> int:
        """Handle one message; each kind says what it does."""
        try:
            if isinstance(message, Reports):
                return self._take_reports(message.take())
            if isinstance(message, Asked):
                return self._execute([message.command], origin=message.origin)
            if isinstance(message, c.Command):
                return self._execute([message])
            self._require_unbroken()
            if isinstance(message, Passivate):
                self._passivate()
            elif isinstance(message, LetGo):
                self._let_go()
            elif isinstance(message, CheckOwned):
                self._check_owned()
            return 0
        except Exception:
            raise
        except BaseException as error:  # Pykka would stop every actor of the process
            raise RuntimeError(f"{type(error).__name__} in session {self._key}") from error

    def on_stop(self) -> None:
        """Leave nothing running behind."""
        self._leave(failed=self._broken is not None)

    def on_failure(self, *_exception: object) -> None:
        """End the session's life in this process, loudly; its log is as it was."""
        self._leave(failed=True)

    def _take_reports(self, reports: Sequence[Report]) -> int:
        decided: list[Reported] = []
        try:
            return self._execute([report.command for report in reports], decided=decided)
        except Exception as error:
            decided.clear()  # nothing of it is durable
            if isinstance(error, PersistenceError):
                raise
            logger.exception("What session %s was told can't be kept.", self._key)
            return self._execute(self._failing_run(error))
        finally:
            for index, report in enumerate(reports):
                report.done(decided[index] if index < len(decided) else VOID)

    def _execute(
        self,
        commands: Sequence[c.Command],
        decided: list[Reported] | None = None,
        origin: Origin | None = None,
    ) -> int:
        """Carry out the commands as one append; return the seq of the first event, or 0.

        ``decided`` gets what each command led to, ``origin`` the answer.
        """
        self._require_unbroken()
        asked: list[tuple[str, Event]] = []
        state = self._state
        for command in commands:
            new = attributed(decide(command, state, hold=self._around.draining), command.request)
            first_seq = state.version + 1
            state = fold(state, new)
            principal = "" if isinstance(command, c.RunCommand) else command.principal
            asked.extend([(principal, event) for event in new])
            if decided is not None:
                decided.append(Reported(new, first_seq))
        if not asked:
            return 0
        committed, new_events = self._prepare(asked)
        erasures = erasures_of(self._require_head(), [event for _principal, event in asked])
        append = Append(
            self._require_head(),
            new_events,
            entry_of(state),
            snapshot_of(state) if erasures else self._due_snapshot(state),
            answers=_answers(origin, committed[0].seq),
            erasures=erasures,
            erases_all=erases_all(self._require_head(), erasures),
        )
        try:
            self._head = self._around.writer.submit(append).result()
        except PersistenceError as error:
            self._broken = error
            self._halt()
            raise
        before, self._state = self._state, state
        self._feed.publish(committed, state)
        self._around.committed(self._key, committed)
        self._conversation.follow(committed)
        if erasures:  # nothing of it stays in memory, nor is remembered of a run that ends now
            self._conversation = Conversation(since=state.version)
        try:
            self._follow_run(before, state, committed)
        except Exception as error:  # what was asked is durable all the same
            logger.exception("Nobody works on the run of session %s.", self._key)
            for command in self._failing_run(error):
                self.actor_ref.tell(command)
        return committed[0].seq

    def _prepare(
        self, asked: Sequence[tuple[str, Event]]
    ) -> tuple[list[Committed], tuple[NewEvent, ...]]:
        """Fold the events and wrap each for the log, tied to the prompt it belongs to.

        Each comes with who asked for it; "" and a run that starts mean the run's own principal.
        """
        state = self._state
        committed: list[Committed] = []
        new_events: list[NewEvent] = []
        started = False
        for principal, event in asked:
            before, state = state, evolve(state, event)
            run = state.run or before.run
            started = started or isinstance(event, RunStarted)
            asker = principal
            if run is not None and (started or not principal):
                asker = run.principal
            payload = CODEC.encode(event)
            new_events.append(
                NewEvent(
                    event.wire_name,
                    event.schema_version,
                    payload,
                    asker or None,
                    getattr(event, "prompt_id", None) or (run.prompt_id if run else None),
                    run.prompt_seq if run else None,
                )
            )
            committed.append(Committed(state.version, event, state, len(payload)))
        return committed, tuple(new_events)

    def _due_snapshot(self, state: SessionState) -> Snapshot | None:
        every = SNAPSHOT_EVERY_EVENTS
        if state.version // every == self._state.version // every:
            return None
        return snapshot_of(state)

    def _follow_run(
        self, before: SessionState, state: SessionState, committed: Sequence[Committed]
    ) -> None:
        """Stop the worker of a run that has ended, start one for a run that has begun.

        The worker of a run that waits for approvals has ended by itself; when all of them are
        answered another one goes on, in the next process where this one stops.
        """
        ended, run = before.run, state.run
        if ended is not None and (run is None or run.prompt_id != ended.prompt_id):
            self._stop_run()
            end, after = _end_of(ended.prompt_id, committed)
            self._around.run_ended(
                EndedRun(
                    self._require_head(),
                    before,
                    ended,
                    self._conversation.recent(ended.started_seq),
                    end,
                    after.run_usage,
                )
            )
        if state.pending:
            self._run = None
        elif run is not None and (
            ended is None
            or run.prompt_id != ended.prompt_id
            or (before.pending and not self._around.draining)
        ):
            self._start_run(self._conversation.recent(state.context_seq))

    def _start_run(self, recent: Recent) -> None:
        self._run = self._around.start_run(
            self.actor_ref, self._require_head(), self._state, recent
        )

    def _failing_run(self, error: Exception) -> list[c.Command]:
        """Return what ends the run after an error that nobody foresaw."""
        run = self._state.run
        if run is None:
            return []
        reason = f"Internal error: {type(error).__name__}"
        return [c.FailRun(self._around.now_ms(), run.prompt_id, reason)]

    def _stop_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.cancel()

    def _passivate(self) -> None:
        if self._feed.has_readers or not self._state.idle:
            return
        if self._state.version:
            snapshot = snapshot_of(self._state)
            append = Append(self._require_head(), (), entry_of(self._state), snapshot)
            self._around.writer.submit(append).result()
        self._around.log_lines.add(f"evicted idle session {self._key}")
        self._let_go()

    def _let_go(self) -> None:
        if self._state.processing and not self._state.resumable:
            return
        with contextlib.suppress(PersistenceError):  # then the process's lease ends by itself
            self._around.writer.submit(Release(self._require_head())).result()
        self._halt()

    def _check_owned(self) -> None:
        head = self._around.log.head(stream_of(self._key))
        if head is None or head.epoch != self._require_head().epoch:
            logger.warning("Another process has session %s.", self._key)
            self._halt()

    def _halt(self) -> None:
        """Stop before the next message: what waits in the inbox is for the next actor."""
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()
        self.on_stop()

    def _leave(self, *, failed: bool) -> None:
        self._stop_run()
        self._around.gone(self._key, self.actor_ref, failed=failed)

    def _require_unbroken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _require_head(self) -> Head:
        assert self._head is not None
        return self._head


def _end_of(prompt_id: str, committed: Sequence[Committed]) -> tuple[Event, SessionState]:
    """Return what ended a run, and the state just after it."""
    for each in committed:
        if isinstance(each.event, RUN_ENDS) and each.event.prompt_id == prompt_id:
            return each.event, each.state
    return committed[0].event, committed[0].state


def _answers(origin: Origin | None, seq: int) -> tuple[Answer, ...]:
    if origin is None:
        return ()
    return (Answer(origin.message_id, origin.asker, encode_outcome(Done(seq))),)
