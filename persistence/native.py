"""The one module that knows about gevent.

Under gevent a blocking system call stops every greenlet, so a call that may wait for the disk is
run on a native thread. Without gevent it is simply called.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Caller(Protocol):
    """Runs a function that may wait for the disk, and returns what it returns."""

    def __call__(self, function: Callable[[], T], /) -> T:
        """Run the function; other greenlets or threads go on meanwhile."""


def call_here(function: Callable[[], T], /) -> T:
    """Run the function on the calling thread."""
    return function()


def native_caller() -> Caller:
    """Return a caller that uses one native thread when gevent has patched this process.

    Must be made after the fork: the native thread belongs to the process.
    """
    if not _is_patched():
        return call_here
    from gevent.threadpool import ThreadPool

    pool: Any = ThreadPool(1)

    def call_natively(function: Callable[[], T], /) -> T:
        result: T = pool.apply(function)
        return result

    return call_natively


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


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
