"""What is due to the sessions of a process, whoever asks for them: by the clock, or at its end."""

import contextlib
import itertools
import logging
import operator
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from actors.errors import TooManySessions
from actors.loaded import Loaded, LoadedSessions
from actors.mailbox import CheckOwned, LetGo, Passivate
from actors.replay import STREAM_PREFIX, stream_of
from actors.session import commands as c
from actors.timers import Timers
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.records import StoredEvent

DRAIN_POLL_S = 0.02
SWEEP_S = 60.0
OVERDUE_S = 1.0

logger = logging.getLogger(__name__)


class UpkeepSettings(Protocol):
    """What upkeep reads of the settings."""

    idle_minutes: float
    run_timeout_s: float


class Keeper(Protocol):
    """The registry, as upkeep uses it."""

    owner: str

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""

    def load(self, key: str) -> object:
        """Have the session's actor started, which carries on with its work."""

    def ask_here(self, key: str, message: c.Command) -> int:
        """Have a command carried out by the session's actor in this process."""


class Upkeep:
    """Takes over, follows, sweeps, ends what is overdue, drains. Part of Owned."""

    def __init__(
        self,
        keeper: Keeper,
        sessions: LoadedSessions,
        log: EventLog,
        settings: Callable[[], UpkeepSettings],
    ) -> None:
        self.draining = False
        self._keeper = keeper
        self._sessions = sessions
        self._log = log
        self._settings = settings

    def start(self, timers: Timers, primary: str) -> None:
        """Carry on with unfinished work, and begin to look for what is due."""
        self.carry_on()
        timers.every(SWEEP_S, lambda: self.sweep(primary))
        timers.every(SWEEP_S, self.carry_on)
        timers.every(OVERDUE_S, self.end_overdue)

    def carry_on(self) -> None:
        """Load the sessions with unfinished work that nobody else owns, as many as fit."""
        if self.draining:
            return
        keys = [
            stream_id.removeprefix(STREAM_PREFIX)
            for stream_id in self._log.abandoned(self._keeper.owner, STREAM_PREFIX)
        ]
        if self._sessions.shared:
            random.shuffle(keys)  # or all processes would be after the same one
        for key in keys:
            try:
                self._keeper.load(key)
            except TooManySessions:
                return  # the next call goes on

    def follow(self, rows: Sequence[int] | None) -> None:
        """Feed the followed sessions that somebody reads: those of the rows, or all."""
        watched = {each.feed.row: each for each in self._sessions.watched(rows)}
        while watched:
            stored = self._log.read_streams({row: each.feed.seq for row, each in watched.items()})
            grown = {
                row: [event for _row, event in events]
                for row, events in itertools.groupby(stored, key=operator.itemgetter(0))
            }
            watched = {row: watched[row] for row in grown if self._feed(watched[row], grown[row])}

    def _feed(self, loaded: Loaded, stored: Sequence[StoredEvent]) -> bool:
        """Feed a session; False when it can't be followed any further."""
        try:
            loaded.feed_on(stream_of(loaded.key), stored)
        except CorruptLogError:
            logger.exception("Session %s can't be followed.", loaded.key)
            self._sessions.drop(loaded)
            return False
        return True

    def check_owned(self, rows: Sequence[int] | None) -> None:
        """Have the sessions stop that others own by now: of those of the rows, or of all."""
        owned = {each.feed.row: each for each in self._sessions.owned()}
        suspects = [row for row in (owned if rows is None else rows) if row in owned]
        if suspects:
            for row in self._log.disowned(self._keeper.owner, suspects):
                owned[row].tell(CheckOwned())

    def sweep(self, primary: str) -> None:
        """Let the sessions go that nobody has used for the idle time."""
        limit = time.monotonic() - self._settings().idle_minutes * 60
        for loaded in self._sessions.all():
            if not loaded.owned:
                self._sessions.forget_unread(loaded)
            elif loaded.used <= limit and loaded.key != primary:
                loaded.tell(Passivate())

    def end_overdue(self) -> None:
        """Fail the runs that have taken longer than a run may; deny what nobody answers.

        The time that a run waits for approvals does not count.
        """
        limit_s = self._settings().run_timeout_s
        now = self._keeper.now_ms()
        for loaded in self._sessions.owned():
            state = loaded.feed.state
            run = None if state is None else state.run
            if state is None or run is None:
                continue
            if state.pending:
                if any(each.expires_at <= now for each in state.pending):
                    loaded.tell(c.ExpireApprovals(now))
            elif now - run.started_at - run.waited_ms > limit_s * 1000:
                error = f"The run took more than {limit_s:g} s."
                loaded.tell(c.FailRun(now, run.prompt_id, error))

    def drain(self, grace_s: float) -> None:
        """Begin nothing new, give what runs ``grace_s`` to end, interrupt the rest.

        Blocks until all of that is in the log. Prompts that wait stay in the queue, and what
        waits for an approval goes on waiting: the next process has it.
        """
        self.draining = True
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and any(each.works for each in self._sessions.owned()):
            self._let_go_of_idle()
            time.sleep(DRAIN_POLL_S)
        for loaded in self._sessions.owned():
            if loaded.works:
                command = c.InterruptRun(self._keeper.now_ms(), "The gateway is stopping.")
                with contextlib.suppress(Exception):  # the next owner closes it otherwise
                    self._keeper.ask_here(loaded.key, command)
        self._let_go_of_idle()
        for loaded in self._sessions.all():
            loaded.feed.close()

    def _let_go_of_idle(self) -> None:
        """Have other processes take over at once what is not worked on here."""
        if self._sessions.shared:
            for loaded in self._sessions.owned():
                if loaded.feed.state is not None and not loaded.works:
                    loaded.tell(LetGo())
