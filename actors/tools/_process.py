"""A command's processes: started without a copy of the gateway, followed, and ended without rest.

A launch describes a program that speaks as ``bwrap`` and ``_launcher.py`` do: it tells what happens
on descriptor 3, in JSON lines, and waits for descriptor 4 before it begins.
"""

import fcntl
import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from msgspec import DecodeError, Struct, field, json

from actors.tools._launcher import Excess

TELL, HOLD, FIRST_EXTRA = 3, 4, 5
ABOVE_THE_GIVEN = 20
"""The gateway's own ends lie here up, so that giving one number never closes another."""

TOLD_BYTES_MAX = 65_536
REAP_S = 1.0
FOREVER_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores, and a program doesn't expect to be."""


class Launch(Struct, frozen=True):
    """What to start. ``extra`` are descriptors that it gets as 5, 6, ...; starting closes them.

    Where ``namespace`` is true the child that it tells is the first process of a PID namespace,
    which ends with it, and in which nothing is to exceed ``processes_max`` and ``memory_bytes``;
    otherwise the program looks after this itself.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    processes_max: int
    memory_bytes: int
    extra: tuple[int, ...] = ()
    namespace: bool = False


class _Told(Struct, frozen=True):
    child: int | None = field(default=None, name="child-pid")
    exit_code: int | None = field(default=None, name="exit-code")
    stopped: Excess = ""
    failed: str = ""


class Process:
    """A started launch. ``output`` and ``told`` are descriptors to wait for and then read.

    ``told`` ends when the program did. Not to be shared between threads.
    """

    def __init__(self, launch: Launch) -> None:
        """Start it; takes the calling thread about a millisecond. Raises OSError."""
        self.exit_code: int | None = None
        self.stopped: Excess = ""
        self.failed = ""
        self.child: int | None = None
        self._namespace = launch.namespace
        self._ending = False
        self._child_handle: int | None = None
        self._unread = b""
        self.output, self.told, self._hold, self._pid = _start(launch)

    def read_told(self) -> bool:
        """Read what the program tells; return whether it goes on."""
        with suppress(BlockingIOError):
            chunk = os.read(self.told, 4096)
            if not chunk:
                return False
            *lines, self._unread = (self._unread + chunk).split(b"\n")
            self._unread = self._unread[:TOLD_BYTES_MAX]
            for line in lines:
                self._note(line)
        return True

    def end(self) -> None:
        """Have all its processes die; does not wait for it."""
        self._ending = True
        if self._namespace:
            self._kill_namespace()
        else:
            self._let_go()

    def kill(self) -> None:
        """Kill a program that still tells, and does not end by itself.

        A launcher's command goes first, with all in its process group: who is left later could
        not be found any more.
        """
        if self.child is not None and self.exit_code is None and not self._namespace:
            with suppress(OSError):
                os.killpg(self.child, signal.SIGKILL)
        with suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """Make sure that nothing is left of it, waiting 3 REAP_S at most; frees the descriptors."""
        try:
            self._kill_namespace()
            self._let_go()
            if self._child_handle is not None:  # which ends after all others of its namespace
                wait_readable(self._child_handle, REAP_S)
            if not self._reaped():
                self.kill()
                self._reaped()
        finally:
            for descriptor in (self.output, self.told, self._child_handle):
                if descriptor is not None:
                    os.close(descriptor)

    def _note(self, line: bytes) -> None:
        try:
            told = json.decode(line, type=_Told)
        except DecodeError:
            return
        if told.child is not None and self.child is None:
            self.child = told.child
            if self._namespace:
                self._hold_child(told.child)
        if told.exit_code is not None:
            self.exit_code = told.exit_code
        self.stopped = told.stopped or self.stopped
        self.failed = told.failed or self.failed

    def _hold_child(self, child: int) -> None:
        """Get hold of the namespace's first process, which waits for it to begin."""
        with suppress(ProcessLookupError):
            self._child_handle = os.pidfd_open(child)
        if self._ending:
            self._kill_namespace()
            return
        with suppress(OSError):
            os.write(self._hold, b"x")

    def _kill_namespace(self) -> None:
        if self._child_handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._child_handle, signal.SIGKILL)

    def _let_go(self) -> None:
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1

    def _reaped(self) -> bool:
        """Take the ended program, waiting REAP_S; somebody else's handler may have done so."""
        deadline = time.monotonic() + REAP_S
        try:
            while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.001)
        except ChildProcessError:
            pass
        return True


def wait_readable(descriptor: int, timeout_s: float) -> None:
    """Wait until the descriptor can be read, or for the time given."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.poll(int(timeout_s * 1000))


def _start(launch: Launch) -> tuple[int, int, int, int]:
    """Return where output and reports come from, what to let go of, and the process id."""
    ours: list[int] = []
    theirs = list(launch.extra)
    try:
        output, output_in = _pipe(ours, theirs)
        told, told_in = _pipe(ours, theirs)
        hold_out, hold = _pipe(theirs, ours)
        given = {1: output_in, 2: output_in, TELL: told_in, HOLD: hold_out}
        given |= dict(enumerate(launch.extra, FIRST_EXTRA))
        actions: list[tuple[int, ...]] = [
            (os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in given.items()
        ]
        others = [each for each in _inheritable() if each not in (0, *given)]
        actions += [(os.POSIX_SPAWN_CLOSE, each) for each in others]
        pid = os.posix_spawn(
            launch.argv[0],
            launch.argv,
            launch.env,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *actions],
            setsigmask=(),
            setsigdef=FOREVER_IGNORED,
        )
    except BaseException:
        _close(ours)
        raise
    finally:
        _close(theirs)
    os.set_blocking(output, False)
    os.set_blocking(told, False)
    return output, told, hold, pid


def _pipe(read_by: list[int], written_by: list[int]) -> tuple[int, int]:
    readable, writable = (above(each) for each in os.pipe())
    read_by.append(readable)
    written_by.append(writable)
    return readable, writable


def above(descriptor: int) -> int:
    """Return the same under a number that no program is given; the old one is closed."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, ABOVE_THE_GIVEN)
    finally:
        os.close(descriptor)


def _inheritable() -> list[int]:
    """Return the gateway's descriptors that a program would get, such as gunicorn's sockets."""
    found = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names
        with suppress(OSError):
            if os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
