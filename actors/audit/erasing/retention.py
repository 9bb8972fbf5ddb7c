"""What is erased by itself when it is old: deltas of whole messages, and idle sessions."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from actors.audit.erasing.eraser import Asker, Eraser
from actors.errors import TooManySessions
from actors.gateway_state import EraseDeltas, GatewayState
from actors.replay import STREAM_PREFIX
from actors.session.commands import Command
from actors.session.events import TextDelta, ThinkingDelta, ToolInputDelta
from actors.session.record_events import SessionReleased
from actors.session.rejections import Rejection
from actors.timers import Timers
from persistence.errors import PersistenceError
from persistence.event_log import EventLog
from persistence.native import give_way, run_soon
from persistence.records import Cursor, Erasure, StoredEvent, StreamEntry, TailedEvent

FIRST_S = 60.0
EVERY_S = 3_600.0
DELTAS = (TextDelta.wire_name, ThinkingDelta.wire_name, ToolInputDelta.wire_name)
BATCH_EVENTS = 1_000
BATCHES_MAX = 1_000
PAGE_STREAMS = 500
SESSIONS_MAX = 1_000
"""Sessions that are erased at once at most; the others are for the next time."""

DAY_MS = 86_400_000

logger = logging.getLogger(__name__)


class RetentionRule(Protocol):
    """How many days idle sessions are kept whose keys begin with the prefix."""

    @property
    def prefix(self) -> str:
        """Return what their keys begin with."""

    @property
    def days(self) -> int:
        """Return for how long they are kept."""


class RetentionSettings(Protocol):
    """What retention reads of the settings."""

    delta_retention_days: int
    primary_session: str

    @property
    def retention(self) -> Sequence[RetentionRule]:
        """Return the rules, of which the first that fits a key counts."""


class _Listed(Struct, frozen=True, rename="camel"):
    """What matters here of a session's summary."""

    last_active_at: int = 0
    legal_hold: str = ""


_decode = msgspec.json.Decoder(_Listed).decode


class Retention:
    """Erases what is due. ``ask`` carries out a command of the gateway's stream, durably."""

    def __init__(
        self,
        log: EventLog,
        eraser: Eraser,
        settings: Callable[[], RetentionSettings],
        state: Callable[[], GatewayState],
        ask: Callable[[Command], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self._log = log
        self._eraser = eraser
        self._settings = settings
        self._state = state
        self._ask = ask
        self._now_ms = now_ms
        self._looked = Cursor(0, 0)
        self._lock = threading.Lock()

    def start(self, timers: Timers) -> None:
        """Begin to look for what is due, a minute from now and then each hour."""
        timers.after(FIRST_S, lambda: run_soon(self.run))
        timers.every(EVERY_S, lambda: run_soon(self.run))

    def run(self) -> None:
        """Erase what is due, unless that is being done already."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._settings().delta_retention_days and self._erase_deltas():
                self._eraser.scrub()
            self._erase_sessions()
        except (PersistenceError, TooManySessions) as error:
            logger.warning("What is old can't be erased now: %s", error)
        finally:
            self._lock.release()

    def _erase_deltas(self) -> int:
        """Erase the deltas that are old enough; return how many."""
        before_us = (self._now_ms() - self._settings().delta_retention_days * DAY_MS) * 1_000
        held = frozenset[str]()
        erased = 0
        for number in range(BATCHES_MAX):
            after = max(self._looked, self._state().deltas_erased_until)
            types = (*DELTAS, SessionReleased.wire_name)
            found = self._log.tail(after, types=types, limit=BATCH_EVENTS)
            due = [*itertools.takewhile(lambda each: each.event.recorded_at < before_us, found)]
            if not due:
                break
            if number == 0:
                held = self._held()
            command = self._command(due, before_us, after, held)
            if command.erasures and self._ask(command):
                erased += command.events
            self._looked = command.until
            give_way()
        return erased

    def _command(
        self, due: Sequence[TailedEvent], before_us: int, after: Cursor, held: frozenset[str]
    ) -> EraseDeltas:
        """Return what erases the payloads of a batch, one range of each stream's deltas."""
        erasures: list[Erasure] = []
        sizes: list[int] = []
        by_stream: dict[str, list[TailedEvent]] = {}
        for each in due:
            by_stream.setdefault(each.stream_id, []).append(each)
        for stream_id, tailed in by_stream.items():
            if stream_id not in held:
                erasure, found = self._erasure(stream_id, tailed)
                if found:
                    erasures.append(erasure)
                    sizes.extend(found)
        return EraseDeltas(
            self._now_ms(),
            before_us,
            len(sizes),
            sum(sizes),
            after,
            due[-1].cursor,
            tuple(erasures),
        )

    def _erasure(
        self, stream_id: str, tailed: Sequence[TailedEvent]
    ) -> tuple[Erasure, Sequence[int]]:
        """Return what erases a stream's deltas, and the sizes of their payloads.

        Those of a session that was released are looked for from the stream's first event on:
        what was due while it was on hold is behind.
        """
        head = self._log.head(stream_id)
        assert head is not None
        first, last = tailed[0].event.seq, self._whole_until(stream_id, tailed[-1].event.seq)
        stored: Iterable[StoredEvent] = [each.event for each in tailed]
        if any(each.type == SessionReleased.wire_name for each in stored):
            first = 1
            stored = self._log.read(head, before=last + 1)
        sizes = [
            len(each.payload)
            for each in stored
            if each.payload is not None and each.type in DELTAS and each.seq <= last
        ]
        return Erasure(head.row, first, last, DELTAS, snapshots=False), sizes

    def _whole_until(self, stream_id: str, last: int) -> int:
        """Return the seq up to which a stream's messages are whole, ``last`` at most."""
        head = self._log.head(stream_id)
        assert head is not None
        newest = next(iter(self._log.read(head, limit=1, newest_first=True, paged=True)), None)
        return 0 if newest is None else min(last, newest.seq)

    def _held(self) -> frozenset[str]:
        """Return the streams of the sessions on hold."""
        return frozenset(
            [each.stream_id for each in self._streams() if _decode(each.summary.body).legal_hold]
        )

    def _streams(self) -> Iterator[StreamEntry]:
        """Yield the streams of all sessions, those that were deleted too."""
        for listed in (True, False):
            after_row = 0
            while page := self._log.entries(
                after_row=after_row, limit=PAGE_STREAMS, prefix=STREAM_PREFIX, listed=listed
            ):
                yield from (each for each in page if each.summary.body)
                after_row = page[-1].row
                give_way()

    def _erase_sessions(self) -> None:
        """Erase the sessions that have been idle for longer than their rule says."""
        if not self._settings().retention:
            return
        for key, rule in itertools.islice([*self._idle()], SESSIONS_MAX):
            reason = f"retention: {rule.prefix} after {rule.days} days"
            try:
                self._eraser.erase_session(key, Asker(reason))
            except Rejection as error:
                logger.info("Session %s stays: %s", key, error)

    def _idle(self) -> Iterator[tuple[str, RetentionRule]]:
        settings = self._settings()
        now = self._now_ms()
        for entry in self._streams():
            key = entry.stream_id.removeprefix(STREAM_PREFIX)
            fits = (each for each in settings.retention if key.startswith(each.prefix))
            rule = next(fits, None)
            if rule is None or entry.summary.active or key == settings.primary_session:
                continue
            shown = _decode(entry.summary.body)
            # A session that is erased and not used since was never active.
            idle = 0 < shown.last_active_at < now - rule.days * DAY_MS
            if idle and not shown.legal_hold:
                yield key, rule
