"""What all sandboxes have in common: the settings, the environment, and what may be read."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from actors.tools._process import Launch

__all__ = ["FILES_MAX", "Launch", "Settings", "environment", "readable", "shell"]

FILES_MAX = 1024
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC = (
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime", "/etc/mime.types"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/ca-trust"),
    *("/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/crypto-policies"),
)
ETC_NETWORK = ("/etc/hosts", "/etc/resolv.conf", "/etc/services", "/etc/protocols", "/etc/gai.conf")

_SHELLS = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash", "/bin/sh")


class Settings(Protocol):
    """What a sandbox is told. The limits are each process's, but for the memory: also all's."""

    sandbox: Literal["auto", "bubblewrap", "landlock", "none"]
    sandbox_network: bool
    sandbox_memory_bytes: int
    sandbox_processes_max: int
    sandbox_cpu_s: int
    sandbox_file_bytes: int


def shell() -> str:
    """Return bash, or else sh."""
    return next((each for each in _SHELLS if Path(each).exists()), "/bin/sh")


def environment(home: str, temporary: str) -> dict[str, str]:
    """Return the whole environment of a command: nothing of the gateway's is in it."""
    return {
        "HOME": home,
        "LANG": "C.UTF-8",
        "PATH": f"{SEARCHED}:{sys.base_prefix}/bin",
        "TERM": "dumb",
        "TMPDIR": temporary,
    }


def readable(workspace: Path, *, network: bool) -> Iterator[Path]:
    """Yield what a command may read and run: the system without its secrets, and Python."""
    for name in (*SYSTEM, *ETC, *(ETC_NETWORK if network else ())):
        yield Path(name)
    python = Path(sys.base_prefix)
    if len(python.parts) > 2 and not workspace.is_relative_to(python):
        yield python
