"""What processes tell each other about the log: only that it is worth a look, never what it holds.

A notice can be lost; whoever waits for one looks by itself now and then.
"""

import logging
import threading
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from persistence.engine import translated_errors
from persistence.errors import StoreUnavailableError
from persistence.group_commit import Outcomes
from persistence.records import Append, Claim, Head, Write

CHANNEL = "sessiond"
PAYLOAD_BYTES_MAX = 7_900
"""PostgreSQL takes no longer payload than 7,999 bytes."""

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


class Notice(Struct, frozen=True, omit_defaults=True):
    """What changed: streams by their rows, None when there are too many to name.

    ``claimed`` are those that ``sender`` owns now, ``asked`` owners for whom there are messages,
    ``answered`` askers who have answers. ``lines`` are for operators: (milliseconds, level, text).
    """

    sender: str
    streams: tuple[int, ...] | None = ()
    asked: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    claimed: tuple[int, ...] = ()
    lines: tuple[tuple[int, str, str], ...] = ()

    def encode(self) -> str:
        """Return the notice as the payload of a notification."""
        whole = _encode(self)
        if len(whole) > PAYLOAD_BYTES_MAX and self.streams:
            return Notice(self.sender, None, self.asked, self.answered, self.claimed).encode()
        if len(whole) > PAYLOAD_BYTES_MAX:  # who is not told looks by itself
            return Notice(self.sender, None).encode()
        return whole.decode()


_decode = msgspec.json.Decoder(Notice).decode


def decoded(payload: str) -> Notice | None:
    """Return a notification's payload as the notice that it is; None when it is none."""
    try:
        return _decode(payload)
    except msgspec.MsgspecError:
        return None


class Announcer:
    """Tells the other processes of each batch that was written here, one notice for a batch.

    What is written while a notice is on its way is told by the next. Implements WriteObserver.
    """

    def __init__(self, engine: sa.Engine, sender: str) -> None:
        self._engine = engine
        self._sender = sender
        self._changed = threading.Condition()
        self._streams: set[int] = set()
        self._claimed: set[int] = set()
        self._answered: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        """Start the thread; call it after the fork."""
        self._thread.start()

    def written(self, writes: Sequence[Write], outcomes: Outcomes, took_s: float) -> None:  # noqa: ARG002 - WriteObserver's
        """See WriteObserver.written."""
        with self._changed:
            for write, outcome in zip(writes, outcomes, strict=True):
                if isinstance(outcome, Head):
                    if isinstance(write, Claim):
                        self._claimed.add(outcome.row)
                        continue
                    self._streams.add(outcome.row)
                    if isinstance(write, Append):
                        self._answered.update([answer.asker for answer in write.answers])
            self._changed.notify()

    def write_failed(self, writes: Sequence[Write], took_s: float) -> None:
        """See WriteObserver.write_failed; there may be nothing to tell."""

    def close(self) -> None:
        """Tell what is left, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (notice := self._next()) is not None:
            try:
                announce(self._engine, notice)
            except StoreUnavailableError as error:
                logger.warning("Other processes are not told: %s", error)

    def _next(self) -> Notice | None:
        with self._changed:
            while not self._streams and not self._claimed:
                if self._closed:
                    return None
                self._changed.wait()
            streams, self._streams = tuple(self._streams), set()
            answered, self._answered = tuple(self._answered), set()
            claimed, self._claimed = tuple(self._claimed), set()
        return Notice(self._sender, streams, (), answered, claimed)


def announce(engine: sa.Engine, notice: Notice) -> None:
    """Send a notice. Raises StoreUnavailableError."""
    with translated_errors(), engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, notice.encode()))
