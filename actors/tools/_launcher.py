"""Runs one command and ends with it all that it started: a program, given to Python by its path.

It is the gateway's child and never restricts the gateway. It needs the standard library alone, so
that it starts in 20 ms. Descriptor 3 takes what it tells, one JSON object a line; when descriptor 4
ends, because the gateway wants it to or is gone, so do the command and this.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NoReturn

TELL, HOLD = 3, 4
TICK_MS = 50
END_S = 10.0
REAPED_AT_ONCE = 256
URGENT, PATIENT = -10, 5
"""How nice the launcher, where it may, and the command are: one has to stop the other."""
NO_PAGES = "0 0 0"

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SYS_LANDLOCK_RESTRICT_SELF = 446
CAPABILITY_VERSION = 0x20080522
CAPABILITIES = 64

Excess = Literal["", "processes", "memory"]

_on_linux = sys.platform == "linux"
_page_bytes = resource.getpagesize()


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main() -> None:
    """Run the job that the first argument describes, and leave nothing of it behind."""
    for descriptor in (TELL, HOLD):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional only
    try:
        job = json.loads(sys.argv[1])
        os.setsid()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, URGENT)
        scoped = _take_charge(job)
        wake = _wake_on_child()
        child = os.fork()
        if child == 0:
            _become(job)
    except OSError as error:
        _tell(failed=str(error))
        return
    _tell(**{"child-pid": child})
    try:
        _follow(job, child, wake, scoped=scoped)
    finally:
        _end_all(child, scoped=scoped)


def memory_of(pids: Sequence[str], proc: str) -> int:
    """Return the bytes of memory that the processes hold of their own."""
    pages = 0
    for pid in pids:
        _, resident, shared, *_ = (_read(f"{proc}/{pid}/statm") or NO_PAGES).split()
        pages += int(resident) - int(shared)
    return pages * _page_bytes


def exceeded(pids: Sequence[str], proc: str, processes_max: int, memory_bytes: int) -> Excess:
    """Name what the processes have too much of, if anything: processes or memory.

    What forked processes still share is counted once, but only looked for when it matters: it
    takes the kernel a while to tell.
    """
    if len(pids) > processes_max:
        return "processes"
    if memory_of(pids, proc) <= memory_bytes:
        return ""
    rollups = [_read(f"{proc}/{pid}/smaps_rollup") for pid in pids]
    kilobytes = [
        int(line.split()[1])
        for rollup in rollups
        for line in rollup.splitlines()
        if line.startswith("Pss_Anon:")
    ]
    return "memory" if sum(kilobytes) * 1024 > memory_bytes else ""


def pids_in(proc: str) -> Iterator[str]:
    """Yield the processes that a folder like /proc shows."""
    with suppress(OSError), os.scandir(proc) as entries:
        yield from (entry.name for entry in entries if entry.name.isdecimal())


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""


def _tell(**said: object) -> None:
    with suppress(OSError):
        os.write(TELL, json.dumps(said).encode() + b"\n")


def _take_charge(job: dict[str, Any]) -> bool:
    """Have orphans come back to here; return whether signals from here reach them alone."""
    if not _on_linux:
        return False
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    if job["scope"] is None:
        return False
    os.kill(os.getppid(), 0)  # that this works now makes the same failing below a proof
    _restrict(job["scope"])
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return True
    raise OSError("signals are not scoped")


def _wake_on_child() -> int:
    """Return a descriptor that can be read when a child ended."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return readable


def _become(job: dict[str, Any]) -> NoReturn:
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if _on_linux:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setpriority(os.PRIO_PROCESS, 0, PATIENT)
        os.chdir(job["folder"])
        for name, limit in job["limits"].items():
            _limit(getattr(resource, name), limit)
        if job["rules"] is not None:
            _drop_capabilities()
            _restrict(job["rules"])
        if job["filter"]:
            _filter_calls(bytes.fromhex(job["filter"]))
        with suppress(OSError):  # made by the command's own rights, wherever its links lead
            Path(job["env"]["TMPDIR"]).mkdir(parents=True, exist_ok=True)
        os.execve(job["argv"][0], job["argv"], job["env"])  # noqa: S606 - this is what it is for
    except BaseException as error:  # noqa: BLE001 - nothing may go on in the launcher's place
        _tell(failed=str(error))
    finally:
        os._exit(126)


def _limit(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with suppress(ValueError, OSError):  # macOS knows no limit of the address space
        resource.setrlimit(kind, (limit, limit))


def _follow(job: dict[str, Any], child: int, wake: int, *, scoped: bool) -> None:
    """Return when the command ended, or has to."""
    poller = select.poll()
    poller.register(HOLD, select.POLLIN)
    poller.register(wake, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poller.poll(TICK_MS)]
        if wake in ready:
            os.read(wake, 4096)
        if HOLD in ready and not os.read(HOLD, 64):
            return
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            _tell(**{"exit-code": ended if ended >= 0 else 128 - ended})
            return
        _reap()
        if _on_linux:
            pids = list(islice(_members(scoped=scoped), job["processes_max"] + 1))
            if excess := exceeded(pids, "/proc", job["processes_max"], job["memory_bytes"]):
                _tell(stopped=excess)
                return


def _reap() -> int:
    """Take some of the ended children and return how many; raises ChildProcessError without any.

    Not all: a command can make them faster than they are taken.
    """
    for taken in range(REAPED_AT_ONCE):
        if os.waitpid(-1, os.WNOHANG)[0] == 0:
            return taken
    return REAPED_AT_ONCE


def _end_all(child: int, *, scoped: bool) -> None:
    """Kill the command and all that came of it; return when none is left, or after END_S."""
    deadline = time.monotonic() + END_S
    with suppress(OSError):  # once: later its number may be another's
        os.killpg(child, signal.SIGKILL)
    while time.monotonic() < deadline:
        if scoped:
            with suppress(OSError):
                os.kill(-1, signal.SIGKILL)  # reaches the scope alone, all of it at one time
        else:
            for pid in _members(scoped=False):
                with suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            if _reap() < REAPED_AT_ONCE:
                time.sleep(0.002)
        except ChildProcessError:
            return


def _members(*, scoped: bool) -> Iterator[str]:
    """Yield the processes that came of the command."""
    here = str(os.getpid())
    if scoped:
        yield from (pid for pid in pids_in("/proc") if pid != here and _reachable(int(pid)))
        return
    parents = {}
    for pid in pids_in("/proc"):
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        parents[pid] = fields[1] if fields else ""
    found = {here}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    yield from found - {here}


def _reachable(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def _prctl(option: int, value: int) -> None:
    _checked(_libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _restrict(rules: int) -> None:
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _checked(_libc().syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, 0))
    os.close(rules)


def _filter_calls(instructions: bytes) -> None:
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    program = _Program(len(instructions) // 8, instructions)
    _checked(_libc().prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)))


def _drop_capabilities() -> None:
    """Give up what root may do beyond its own files, for good."""
    for capability in range(CAPABILITIES):
        _libc().prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _checked(_libc().capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
