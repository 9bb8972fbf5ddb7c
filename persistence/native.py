"""The one module that knows about gevent.

Under gevent a blocking system call stops every greenlet, so calls that wait for the disk are run on
a native thread when they take long. Without gevent they are simply called.
"""

import os
import posix
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

GIVE_WAY_S = 0.001

T = TypeVar("T")

QUICK_S = 0.003
SLOWNESS_KEPT = 0.98
"""A call of 20 ms is forgotten after about 100 quick ones."""


class Caller(Protocol):
    """Runs a function that may wait for the disk, and returns what it returns."""

    def __call__(self, function: Callable[[], T], /) -> T:
        """Run the function; other greenlets or threads go on meanwhile."""


def call_here(function: Callable[[], T], /) -> T:
    """Run the function on the calling thread."""
    return function()


def native_caller() -> Caller:
    """Return a caller that keeps slow calls away from the greenlets, where there are any.

    Must be made after the fork: its native thread belongs to the process.
    """
    return _NativeWhenSlow() if _is_patched() else call_here


class _NativeWhenSlow:
    """Calls on a native thread while calls are slow, and on the spot while they are quick.

    Handing a call over costs more than a quick one takes (docs/adr/0005). One that turns out
    slow stalls the greenlets once; the next ones go to the thread until calls have been quick
    for a while.
    """

    def __init__(self) -> None:
        from gevent.threadpool import ThreadPool

        self._pool: Any = ThreadPool(1)
        self._slowest_s = 0.0

    def __call__(self, function: Callable[[], T], /) -> T:
        if self._slowest_s < QUICK_S:
            return self._timed(function)
        result: T = self._pool.apply(self._timed, (function,))
        return result

    def _timed(self, function: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return function()
        finally:
            took_s = time.perf_counter() - began
            self._slowest_s = max(took_s, self._slowest_s * SLOWNESS_KEPT)


class Gate(Protocol):
    """Lets all who wait pass once it is set."""

    def set(self) -> None:
        """Let everyone pass, now and later."""

    def wait(self) -> object:
        """Wait until it is set."""


class LockGate:
    """A gate of one lock, which each lets the next one through. Implements Gate.

    Half the cost of an Event between threads.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """See Gate.set."""
        self._lock.release()

    def wait(self) -> object:
        """See Gate.wait."""
        with self._lock:
            return True


def gate_maker() -> Callable[[], Gate]:
    """Return what makes the cheapest gates here: between greenlets an Event is."""
    return threading.Event if _is_patched() else LockGate


def patch() -> None:
    """Make this process's blocking calls yield to other greenlets; call it first of all."""
    from gevent import monkey

    monkey.patch_all()


def run_soon(function: Callable[[], object]) -> None:
    """Run the function beside whatever runs now; may be called from a signal handler."""
    if _is_patched():
        import gevent

        gevent.spawn(function)
    else:
        threading.Thread(target=function, daemon=True).start()


def give_way() -> None:
    """Let others have their turn in the midst of long work, those too that wait for a socket.

    gevent looks at sockets only when every greenlet sleeps: a sleep of 0 is not enough.
    """
    time.sleep(GIVE_WAY_S)


def start_native_thread(function: Callable[[], object]) -> None:
    """Run the function on a thread of the system's own, also where threads are greenlets.

    What waits there under gevent makes a hub, which is left when the function ends: taking it
    apart while the process ends would crash. So it is for threads that live as long as that.
    """
    if _is_patched():
        from gevent import monkey

        monkey.get_original("_thread", "start_new_thread")(function, ())
    else:
        threading.Thread(target=function, daemon=True).start()


def spawn_process(
    command: Sequence[str], environment: Mapping[str, str], streams: tuple[int, int, int]
) -> int:
    """Start a process from any thread and return its id; it leads a group of its own.

    It gets the environment, and the streams as its standard ones. Raises OSError and ValueError.
    gevent's own ways do so from the first thread alone, and it takes away those of subprocess.
    """
    path = shutil.which(command[0], path=environment.get("PATH"))
    if path is None:
        raise FileNotFoundError(f"there is no program {command[0]}")
    return posix.posix_spawn(
        path,
        list(command),
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate(streams)],
        setpgroup=0,
        setsigdef=[signal.SIGPIPE],
    )


def has_ended(process_id: int) -> bool:
    """Tell whether a process that was spawned here has ended; it is gone then."""
    try:
        return posix.waitpid(process_id, os.WNOHANG)[0] == process_id
    except ChildProcessError:
        return True  # gevent waits for every child once it has started one itself


class Wakeup(Protocol):
    """Wakes one waiter, from any native thread."""

    def wake(self) -> None:
        """Let the waiter go on, or the next one."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until woken; False when the time is over."""

    def close(self) -> None:
        """Let go of what the waiter's thread keeps for it; waking then does nothing."""


def make_wakeup() -> Wakeup:
    """Return what lets the calling thread, or greenlet, wait for a native thread."""
    return _HubWakeup() if _is_patched() else _ThreadWakeup()


class _ThreadWakeup:
    def __init__(self) -> None:
        self._woken = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def wait(self, timeout_s: float) -> bool:
        woken = self._woken.wait(timeout_s)
        self._woken.clear()
        return woken

    def close(self) -> None:
        pass


class _HubWakeup:
    """Asks the waiter's hub from another thread: the one thing that a hub can be asked so."""

    def __init__(self) -> None:
        from gevent import get_hub
        from gevent.event import Event

        self._woken: Any = Event()
        self._watcher: Any = get_hub().loop.async_()
        self._watcher.start(self._woken.set)

    def wake(self) -> None:
        self._watcher.send()

    def wait(self, timeout_s: float) -> bool:
        woken = bool(self._woken.wait(timeout_s))
        self._woken.clear()
        return woken

    def close(self) -> None:
        self._watcher.stop()


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
