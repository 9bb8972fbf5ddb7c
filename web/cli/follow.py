"""A session's events beside what is typed: read on a thread, taken by whoever waits for both."""

import contextlib
import os
import queue
import select
import threading
from typing import Self

import click

from web.cli.client import Backoff, Client, Lines, Refused, Unreachable, session_path
from web.cli.frames import Frame, frames_of

EVENT_STREAM = "text/event-stream"
HELLO = "hello"
WAITING_MAX = 1_000
POLL_S = 0.5
"""How often a full queue's thread looks whether anybody still wants what it has."""

Item = Frame | click.ClickException
"""An event, or why there are no more: the last item."""


class Follower:
    """Follows a session from a seq on, over lost connections; a context manager.

    It goes on where it was by the last event's id; ``lost`` tells that it tries to.
    """

    def __init__(self, client: Client, key: str, after: int) -> None:
        self._client = client
        self._key = key
        self._after = after
        self._items: queue.Queue[Item] = queue.Queue(WAITING_MAX)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        self._stopped = threading.Event()
        self._lines: Lines | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self.lost = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        lines = self._lines
        if lines is not None:
            lines.close()
        self._thread.join()
        os.close(self._woken)
        os.close(self._wake)

    def wait(self, typing: int | None) -> bool:
        """Block until there is something to take, or to read from ``typing``; tell if the latter.

        ``typing`` is a file descriptor, None where nobody types.
        """
        watched = [self._woken] if typing is None else [self._woken, typing]
        ready, _, _ = select.select(watched, [], [])
        return typing in ready

    def take(self) -> list[Frame]:
        """Return what has come. Raises ClickException where nothing more will."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 2 * WAITING_MAX)
        taken: list[Frame] = []
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._items.get_nowait()
                if isinstance(item, click.ClickException):
                    raise item
                taken.append(item)
        return taken

    def _run(self) -> None:
        backoff = Backoff()
        try:
            while not self._stopped.is_set():
                error = self._read(backoff)
                if not self._stopped.is_set():
                    self.lost = True
                    os.write(self._wake, b"\0")
                    self._stopped.wait(backoff.delay_s(error))
        except click.ClickException as error:
            self._put(error)

    def _read(self, backoff: Backoff) -> click.ClickException | None:
        """Read one connection's events to its end; return what is wrong, where that is known.

        Raises Refused where it makes no sense to try again.
        """
        path = session_path(self._key, "events", after=self._after)
        try:
            self._lines = self._client.open(path, EVENT_STREAM)
        except Unreachable as error:
            return error
        except Refused as error:
            if error.status < 500 and error.status != 429:
                raise
            return error
        try:
            for frame in frames_of(self._lines):
                self.lost = False
                if frame is None or frame.kind != HELLO:
                    backoff.reset()
                if frame is not None and frame.kind != HELLO:
                    self._after = frame.seq
                    self._put(frame)
                if self._stopped.is_set():
                    break
        finally:
            self._lines.close()
        return None

    def _put(self, item: Item) -> None:
        while not self._stopped.is_set():
            try:
                self._items.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            os.write(self._wake, b"\0")
            return


def end_of(client: Client, key: str) -> int:
    """Return the seq at which a session's log ends now. Raises Refused or Unreachable."""
    lines = client.open(session_path(key, "events"), EVENT_STREAM)
    try:
        for frame in frames_of(lines):
            if frame is not None:
                return frame.seq
    finally:
        lines.close()
    raise Unreachable(f"The gateway at {client.url} ends a stream before its first event.")
