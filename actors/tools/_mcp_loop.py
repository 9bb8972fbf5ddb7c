"""An event loop on a native thread, and how those who block have something done there."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from actors.tools.base import ToolContext, ToolError
from persistence.native import Wakeup, make_wakeup, start_native_thread

T = TypeVar("T")

Report = Callable[[str], None]
Work = Callable[[Report], Coroutine[Any, Any, T]]

REPORTS_KEPT = 256
"""Reports that wait for a busy caller; older ones are left out."""
START_TIMEOUT_S = 10.0
LOOK_EVERY_S = 1.0
"""How soon a waiter notices that the loop has ended without having begun its call."""


class _Call(Generic[T]):
    """Something that is done on the loop while another thread waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Work[T]) -> None:
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._cancelled = False
        self._reports: deque[str] = deque(maxlen=REPORTS_KEPT)
        self._wakeup: Wakeup = make_wakeup()

    def begin(self) -> None:
        """Ask the loop to do it. Raises RuntimeError where the loop is closed."""
        self._loop.call_soon_threadsafe(self._begin)

    def cancel(self) -> None:
        """Have it ended, and the waiter look; from any thread."""
        self._cancelled = True
        self._wakeup.wake()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to see; True when it is done."""
        self._wakeup.wait(timeout_s)
        return self._task is not None and self._task.done()

    def result(self) -> T:
        """Return what was done, or raise what was raised."""
        assert self._task is not None
        return self._task.result()

    def pass_on(self, report: Report) -> None:
        """Report what has come since the last time."""
        while self._reports:
            report(self._reports.popleft())

    def close(self) -> None:
        """Wait no more."""
        self._wakeup.close()

    def _begin(self) -> None:
        if not self._cancelled:
            self._task = self._loop.create_task(self._work(self._take))
            self._task.add_done_callback(self._finish)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _take(self, report: str) -> None:
        self._reports.append(report)
        self._wakeup.wake()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # seen, should nobody wait any more
        self._wakeup.wake()


class NativeLoop:
    """Runs ``main`` on a thread of its own, also under gevent, until it is closed.

    The thread starts with ``start``, so after a fork. It is never started twice.
    """

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._main = main
        self._lock = threading.Lock()
        self._started = False
        self._ended = False
        self._begun: Wakeup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the thread unless it was; blocks until its loop runs."""
        with self._lock:
            if self._started:
                return
            self._started = True
            self._begun = make_wakeup()
            start_native_thread(self._run)
            self._begun.wait(START_TIMEOUT_S)
            self._begun.close()

    def call(self, work: Work[T], context: ToolContext, timeout_s: float) -> T:
        """Have it done on the loop and return what it returns; its reports are passed on here.

        Raises ToolCancelled, and ToolError when it takes too long or the loop has ended.
        """
        self.start()
        loop = self._loop
        if loop is None:
            raise ToolError(ENDED)
        call = _Call(loop, work)
        try:
            context.cancellation.on_cancel(call.cancel)
            with suppress(RuntimeError):  # closed since: the wait below sees it
                call.begin()
            self._wait(call, context, time.monotonic() + timeout_s)
            return call.result()
        except asyncio.CancelledError:
            raise ToolError(ENDED) from None
        finally:
            call.close()

    def close(self, timeout_s: float) -> None:
        """End what runs, and wait for it; a loop that is closed does not start again."""
        with self._lock:
            self._started = True
        loop, task = self._loop, self._task
        if loop is None or task is None:
            return
        with suppress(RuntimeError):  # it has just ended
            loop.call_soon_threadsafe(task.cancel)
        wakeup = self._begun = make_wakeup()
        deadline = time.monotonic() + timeout_s
        while not self._ended and (left := deadline - time.monotonic()) > 0:
            wakeup.wait(min(left, LOOK_EVERY_S))
        wakeup.close()

    def _wait(self, call: _Call[T], context: ToolContext, deadline: float) -> None:
        done = False
        while not done:
            left = deadline - time.monotonic()
            if left <= 0 or self._ended:
                call.cancel()
                raise ToolError(ENDED if self._ended else "There was no answer in time.")
            done = call.wait(min(left, LOOK_EVERY_S))
            context.cancellation.check()
            call.pass_on(context.report)

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        finally:
            self._loop = None
            self._ended = True
            self._wake()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._wake()
        with suppress(asyncio.CancelledError):
            await self._main()

    def _wake(self) -> None:
        if self._begun is not None:
            self._begun.wake()


ENDED = "MCP servers are not running any more."
