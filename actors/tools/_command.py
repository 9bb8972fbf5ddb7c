"""Runs a command: hands on its output as it comes, and ends it when it has to."""

import os
import select
import threading
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

from actors.tools._launcher import exceeded, pids_in
from actors.tools._process import Launch, Process
from actors.tools.base import Cancellation

TICK_MS = 50
CHUNK_BYTES = 65_536
DRAIN_CHUNKS = 64
END_S = 15.0
"""A launcher takes 10 s at most to end what it started, a namespace less."""

Stopped = Literal["", "timeout", "cancelled", "output", "processes", "memory"]


class SandboxFailed(Exception):
    """The command did not run, or its sandbox was killed from outside."""


class Ended(Struct, frozen=True):
    """How a command ended: with an exit code, or because it was stopped."""

    exit_code: int | None
    stopped: Stopped


class Sink(Protocol):
    """Takes output."""

    def add(self, chunk: bytes) -> bool:
        """Take some; return whether more is wanted."""

    def tick(self) -> None:
        """Do what is due; called every TICK_MS or so."""


def run_command(
    launch: Launch, sink: Sink, *, timeout_s: float, cancellation: Cancellation
) -> Ended:
    """Run it to its end, which comes within timeout_s and a bit.

    None of its processes is left when this returns. Raises SandboxFailed.
    """
    try:
        process = Process(launch)
    except OSError as error:
        raise SandboxFailed(str(error)) from error
    waker = _Waker()
    try:
        run = _Run(process, sink, launch, time.monotonic() + timeout_s)
        cancellation.on_cancel(waker.wake)
        run.follow(waker.readable, cancellation)
    finally:
        waker.close()
        process.close()
    return run.ended()


class _Waker:
    """Ends a poll from another thread, also after nobody polls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.readable, self._writable = os.pipe()
        os.set_blocking(self._writable, False)
        self._open = True

    def wake(self) -> None:
        with self._lock:
            if self._open:
                with suppress(BlockingIOError):
                    os.write(self._writable, b"x")

    def close(self) -> None:
        with self._lock:
            self._open = False
            os.close(self.readable)
            os.close(self._writable)


class _Run:
    def __init__(self, process: Process, sink: Sink, launch: Launch, deadline_s: float) -> None:
        self._process = process
        self._sink = sink
        self._launch = launch
        self._deadline_s = deadline_s
        self._end_by_s: float | None = None
        self._stopped: Stopped = ""
        self._watch_at_s = 0.0

    def follow(self, wake: int, cancellation: Cancellation) -> None:
        """Return when the program ended, or would not within END_S."""
        poller = select.poll()
        for descriptor in (self._process.output, self._process.told, wake):
            poller.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll(TICK_MS)}
            if self._process.output in ready and not self._take():
                poller.unregister(self._process.output)
            if self._process.told in ready and not self._process.read_told():
                break
            if cancellation.cancelled:
                self._stop("cancelled")
                with suppress(KeyError):
                    poller.unregister(wake)
            self._check(time.monotonic())
            self._sink.tick()
            if self._end_by_s is not None and time.monotonic() > self._end_by_s:
                self._process.kill()
                break
        self._drain()

    def ended(self) -> Ended:
        """Return how it ended. Raises SandboxFailed where nothing says so."""
        process = self._process
        if process.failed:
            raise SandboxFailed(process.failed)
        self._stopped = process.stopped or self._stopped
        if process.exit_code is None and not self._stopped:
            raise SandboxFailed("it ended without a word")
        return Ended(None if self._stopped else process.exit_code, self._stopped)

    def _take(self) -> bool:
        """Hand on a chunk; return whether there may be more."""
        try:
            chunk = os.read(self._process.output, CHUNK_BYTES)
        except BlockingIOError:
            return True
        if chunk and not self._stopped and not self._sink.add(chunk):
            self._stop("output")
        return bool(chunk)

    def _drain(self) -> None:
        """Take what was written before the end; the pipe holds no more than this."""
        for _ in range(DRAIN_CHUNKS):
            try:
                chunk = os.read(self._process.output, CHUNK_BYTES)
            except BlockingIOError:
                return
            if not chunk or self._stopped or not self._sink.add(chunk):
                return

    def _check(self, now_s: float) -> None:
        if now_s > self._deadline_s:
            self._stop("timeout")
        child = self._process.child
        if child is None or not self._launch.namespace or now_s < self._watch_at_s:
            return
        self._watch_at_s = now_s + TICK_MS / 1000
        proc = f"/proc/{child}/root/proc"
        if _is_own(proc):
            limits = self._launch.processes_max, self._launch.memory_bytes
            pids = list(islice(pids_in(proc), limits[0] + 1))
            self._stop(exceeded(pids, proc, *limits))

    def _stop(self, why: Stopped) -> None:
        if why and not self._stopped:
            self._stopped = why
            self._end_by_s = time.monotonic() + END_S
            self._process.end()


def _is_own(proc: str) -> bool:
    """Tell whether it shows a namespace of its own: a child that just begins has the gateway's."""
    with suppress(OSError):
        return Path(proc).stat().st_dev != Path("/proc").stat().st_dev
    return False
