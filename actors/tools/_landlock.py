"""Commands that Landlock and seccomp keep to their workspace, and such that nothing does."""

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from actors.tools import _launcher
from actors.tools._confinement import FILES_MAX, Settings, environment, readable, shell
from actors.tools._process import FIRST_EXTRA, Launch, above
from actors.tools._seccomp import socket_filter

ABI_MIN = 6
"""From here on (Linux 6.12) a command can neither signal the gateway nor outlive its launcher."""

USER_PROCESSES_MAX = 4096
TEMPORARY = ".sessiond/tmp"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class Unconfined:
    """Runs with the rights of the gateway, within limits. Implements Sandbox.

    Its processes are found by who started them; on macOS one that makes a session of its own is
    lost.
    """

    name: Literal["none"] = "none"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def command(self, text: str, workspace: Path) -> Launch:
        """See Sandbox.command."""
        return _launched(text, workspace, self._settings)


class LandlockSandbox:
    """Shares the machine's file tree, and may use little of it. Implements Sandbox.

    What Landlock leaves open: names, sizes and times of any file can be seen, modes and times of
    the gateway's own be changed, and other processes' command lines be read. Sockets are
    seccomp's to refuse, since Landlock knows no others than TCP's.
    """

    name: Literal["landlock"] = "landlock"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def command(self, text: str, workspace: Path) -> Launch:
        """See Sandbox.command."""
        network = self._settings.sandbox_network
        filter_ = socket_filter(network=network)
        if not filter_:
            raise OSError("the system calls of this machine are not known")
        scope, rules = _rulesets(workspace, network=network)
        return _launched(text, workspace, self._settings, (scope, rules), filter_)


def _launched(
    text: str,
    workspace: Path,
    settings: Settings,
    rulesets: tuple[int, ...] = (),
    filter_: bytes = b"",
) -> Launch:
    inner = shell()
    scope, rules = range(FIRST_EXTRA, FIRST_EXTRA + 2) if rulesets else (None, None)
    job = {
        "argv": [inner, "-c", text],
        "env": environment(str(workspace), str(workspace / TEMPORARY)),
        "folder": str(workspace),
        "limits": _limits(settings),
        "processes_max": settings.sandbox_processes_max,
        "memory_bytes": settings.sandbox_memory_bytes,
        "scope": scope,
        "rules": rules,
        "filter": filter_.hex(),
    }
    return Launch(
        (sys.executable, "-I", "-S", str(Path(_launcher.__file__)), json.dumps(job)),
        {"LANG": "C.UTF-8"},
        settings.sandbox_processes_max,
        settings.sandbox_memory_bytes,
        rulesets,
    )


def _limits(settings: Settings) -> dict[str, int]:
    """Return the limits by name. Processes are counted by the launcher.

    The kernel counts all that the user has, the gateway's threads and other sessions among them:
    its limit is one that is met only when the launcher can't keep up, and not root's at all.
    """
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": FILES_MAX,
        "RLIMIT_CPU": settings.sandbox_cpu_s,
        "RLIMIT_FSIZE": settings.sandbox_file_bytes,
        "RLIMIT_AS": settings.sandbox_memory_bytes,
        "RLIMIT_NPROC": USER_PROCESSES_MAX,
    }


def _rulesets(workspace: Path, *, network: bool) -> tuple[int, int]:
    """Return what the launcher and the command are to put themselves under, as descriptors.

    Raises OSError where Landlock can't do it.
    """
    try:
        landlock = import_module("py_landlock")
    except ImportError as error:
        raise OSError("py_landlock is not installed") from error
    try:
        if landlock.get_abi_version() < ABI_MIN:
            raise OSError("Landlock is too old here")
        scope = above(landlock.create_ruleset(_attributes(landlock, files=False, network=True)))
        try:
            return scope, _rules(landlock, workspace, network=network)
        except BaseException:
            os.close(scope)
            raise
    except landlock.LandlockError as error:
        raise OSError(str(error)) from error


def _attributes(landlock: Any, *, files: bool, network: bool) -> Any:  # noqa: ANN401 - a module
    attributes = landlock.RulesetAttr()
    attributes.scoped = landlock.Scope.SIGNAL | landlock.Scope.ABSTRACT_UNIX_SOCKET
    if files:
        attributes.handled_access_fs = (landlock.AccessFs.IOCTL_DEV << 1) - 1
    if not network:
        tcp = landlock.AccessNet
        attributes.handled_access_net = tcp.BIND_TCP | tcp.CONNECT_TCP
    return attributes


def _rules(landlock: Any, workspace: Path, *, network: bool) -> int:  # noqa: ANN401 - a module
    access = landlock.AccessFs
    rules = above(landlock.create_ruleset(_attributes(landlock, files=True, network=network)))
    try:
        everything = (access.IOCTL_DEV << 1) - 1
        inside = everything & ~(access.IOCTL_DEV | access.MAKE_CHAR | access.MAKE_BLOCK)
        run = access.EXECUTE | access.READ_FILE
        _allow(landlock, rules, [workspace], inside)
        _allow(landlock, rules, readable(workspace, network=network), run | access.READ_DIR)
        _allow(landlock, rules, [Path("/proc")], access.READ_FILE | access.READ_DIR)
        _allow(landlock, rules, map(Path, DEVICES), access.READ_FILE | access.WRITE_FILE)
    except BaseException:
        os.close(rules)
        raise
    return rules


def _allow(landlock: Any, rules: int, paths: Iterable[Path], allowed: int) -> None:  # noqa: ANN401
    """Add a rule for each of the paths that exists."""
    file_only = (
        landlock.AccessFs.EXECUTE | landlock.AccessFs.READ_FILE | landlock.AccessFs.WRITE_FILE
    )
    for path in paths:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = landlock.PathBeneathAttr()
                rule.allowed_access = allowed if path.is_dir() else allowed & file_only
                rule.parent_fd = descriptor
                landlock.add_rule(rules, rule)
            finally:
                os.close(descriptor)
