"""One owner for each session, across processes: this one's lease, and what follows from others'.

A thread of its own renews the lease, takes notices, and does what they are about. What it does
about a lost notice it does a little later, by the clock.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pykka

from actors import asking
from actors.asking import Done, Moved, Outcome, Unavailable
from actors.errors import TooManySessions
from actors.log_lines import LogLine, LogLines
from actors.origin import Origin
from actors.others import Questions
from actors.replay import STREAM_PREFIX
from actors.session import commands as c
from actors.session.rejections import Rejection
from persistence.errors import OwnedElsewhereError, PersistenceError, StoreUnavailableError
from persistence.inbox import Inbox, Message
from persistence.leases import Leases
from persistence.notices import Notice

WAIT_S = 0.25
SERVING_MAX = 16
"""Messages of others that are carried out at once; each waits for an append."""

TAKEN_KEPT = 10_000

BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 5.0
GRACE_LEASES = 0.3
"""After connecting, dead locks are not acted upon for this part of a lease: a database that
comes back has lost everybody's, and everybody is about to take them again."""

logger = logging.getLogger(__name__)


class Owned(Protocol):
    """The sessions of this process, as its ownership needs them: an Upkeep."""

    def carry_on(self) -> None:
        """Take over what nobody works on."""

    def follow(self, rows: Sequence[int] | None) -> None:
        """Feed the sessions that are followed, those of the rows or all."""

    def check_owned(self, rows: Sequence[int] | None) -> None:
        """Let go of the sessions that others own by now, of those rows or of all."""


Serve = Callable[[str, c.Command, Origin], int]
"""Carries out a command here, durably; the answer is in the log when it led to events."""


Watch = Callable[[Sequence[int] | None], object]
"""Is told of streams that may have gone on, by their rows, or that any may have."""


class _Due:
    """Something that is due again and again."""

    def __init__(self, period_s: float, call: Callable[[], object]) -> None:
        self._period_s = period_s
        self._call = call
        self._at = 0.0

    def run(self, now: float) -> None:
        if now >= self._at:
            self._at = now + self._period_s
            self._call()


class Ownership:
    """Keeps this process's lease. Implements Others, together with Questions."""

    def __init__(
        self,
        leases: Leases,
        inbox: Inbox,
        questions: Questions,
        *,
        lease_s: float,
        watches: Sequence[Watch],
        log_lines: LogLines,
    ) -> None:
        log_lines.tell_others()
        self._log_lines = log_lines
        self.owner = questions.owner
        self.asked: Callable[[float, str], object] = lambda _took_s, _outcome: None
        self.settle = questions.settle
        self._leases = leases
        self._inbox = inbox
        self._questions = questions
        self._lease_s = lease_s
        self._watches = watches
        self._owned: Owned | None = None
        self._serve_command: Serve | None = None
        self._renewed_at = -lease_s
        self._connected_at = 0.0
        self._taken: dict[int, None] = {}  # messages, the newest last
        self._pool = ThreadPoolExecutor(SERVING_MAX, thread_name_prefix="serving")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ownership", daemon=True)
        self._due: list[_Due] = []

    @property
    def sure(self) -> bool:
        """See Others.sure."""
        return self.lease_age_s < self._lease_s

    @property
    def lease_age_s(self) -> float:
        """Return how long ago the lease was renewed, in seconds."""
        return time.monotonic() - self._renewed_at

    def ask(self, owner: str, key: str, command: c.Command) -> int:
        """See Others.ask."""
        began = time.monotonic()
        outcome = "done"
        try:
            return self._questions.ask(owner, key, command)
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self.asked(time.monotonic() - began, outcome)

    def connect(self) -> None:
        """Take the lease, before anything is owned. Raises StoreUnavailableError."""
        self._leases.connect()
        self._renewed_at = self._connected_at = time.monotonic()

    def start(self, owned: Owned, serve: Serve) -> None:
        """Begin to keep the lease, to act for these sessions, and to serve what is asked of them.

        ``serve`` is SessionRegistry.serve.
        """
        self._owned, self._serve_command = owned, serve
        beat_s = self._lease_s / 20
        self._due = [
            _Due(self._lease_s / 5, self._renew),
            _Due(beat_s, self._take_over),
            _Due(2 * beat_s, self._look_around),
            _Due(self._lease_s / 5, lambda: owned.check_owned(None)),
            _Due(60, self._inbox.sweep),
        ]
        self._thread.start()

    def close(self) -> None:
        """Let others have what is owned here, and stop."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown()
        try:
            self._leases.resign()
        except StoreUnavailableError as error:
            logger.warning("The lease ends by itself: %s", error)
        self._leases.drop()

    def _run(self) -> None:
        backoff_s = BACKOFF_S_MIN
        connected = True
        while not self._closing.is_set():
            try:
                if not connected:
                    self.connect()
                    self._require_owned().check_owned(None)
                connected = True
                self._step()
                backoff_s = BACKOFF_S_MIN
            except Exception as error:
                if isinstance(error, StoreUnavailableError):
                    logger.warning("Other processes can't be seen: %s", error)
                else:
                    logger.exception("The sessions of other processes can't be followed.")
                connected = False
                self._closing.wait(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)

    def _step(self) -> None:
        for notice in self._leases.wait(min(WAIT_S, self._lease_s / 20)):
            self._take(notice)
        lines = self._log_lines.untold()
        if lines:
            self._inbox.tell([(each.at, each.level, each.line) for each in lines])
        now = time.monotonic()
        for due in self._due:
            due.run(now)

    def _take(self, notice: Notice) -> None:
        name, owned = self._leases.name, self._require_owned()
        if name in notice.answered:
            self._questions.look()
        if name in notice.asked:
            self._serve_messages()
        if notice.lines:
            self._log_lines.take([LogLine(*line) for line in notice.lines])
        if notice.claimed:
            owned.check_owned(notice.claimed)
        if notice.streams is None or notice.streams:
            owned.follow(notice.streams)
            for watch in self._watches:
                watch(notice.streams)

    def _renew(self) -> None:
        began = time.monotonic()
        known = self._leases.renew()
        self._renewed_at = began
        if not known:
            logger.warning("This process was taken for dead; others have its sessions by now.")
            self._require_owned().check_owned(None)

    def _take_over(self) -> None:
        if time.monotonic() - self._connected_at > self._lease_s * GRACE_LEASES:
            for name in self._leases.reap():
                logger.warning("Worker %s has died.", name)
        self._require_owned().carry_on()

    def _look_around(self) -> None:
        self._require_owned().follow(None)
        self._serve_messages()
        for watch in self._watches:
            watch(None)

    def _serve_messages(self) -> None:
        for message in self._inbox.messages():
            if message.id not in self._taken:  # it may just have been answered
                self._taken[message.id] = None
                self._pool.submit(self._serve, message)
        while len(self._taken) > TAKEN_KEPT:
            del self._taken[next(iter(self._taken))]

    def _serve(self, message: Message) -> None:
        try:
            outcome = self._outcome(message)
            if not (isinstance(outcome, Done) and outcome.seq):
                self._inbox.answer(message, asking.encode_outcome(outcome))
        except StoreUnavailableError as error:
            logger.warning("A message can't be answered: %s", error)
            self._taken.pop(message.id, None)
        except Exception:
            logger.exception("A message for %s can't be served.", message.stream_id)

    def _outcome(self, message: Message) -> Outcome:
        assert self._serve_command is not None
        key = message.stream_id.removeprefix(STREAM_PREFIX)
        command = asking.decode_command(message.body)
        try:
            return Done(self._serve_command(key, command, Origin(message.id, message.asker)))
        except Rejection as rejection:
            return asking.refused(rejection)
        except OwnedElsewhereError:
            return Moved()
        except (TooManySessions, PersistenceError, pykka.Timeout) as error:
            return Unavailable(str(error))

    def _require_owned(self) -> Owned:
        assert self._owned is not None
        return self._owned
