"""A filter of system calls: which sockets a command may make, for the kernel to run."""

import platform
import socket
import struct

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE = 0x7FFF_0000, 0x0005_0000
EACCES = 13

NUMBER_AT, ARCHITECTURE_AT, ARGUMENT_AT = 0, 4, 16
X32_CALLS = 0x4000_0000
IO_URING_SETUP = 425
"""A ring could make sockets past the filter."""

_ARCHITECTURES = {"x86_64": (0xC000_003E, 41), "aarch64": (0xC000_00B7, 198)}
"""By machine: how the kernel names it, and its number of socket()."""

_Step = tuple[int, int, str, str]
"""An operation, its operand, and where to go on if it holds and if not: empty is the next."""


def socket_filter(*, network: bool) -> bytes:
    """Return a filter without sockets but pairs, or where there is to be a network only its own.

    Sockets in the file system and abstract ones, which would reach the machine's services, are
    refused either way. Empty where the machine's calls are not known.
    """
    known = _ARCHITECTURES.get(platform.machine())
    if known is None:
        return b""
    architecture, socket_call = known
    steps: list[_Step] = [
        (LOAD, ARCHITECTURE_AT, "", ""),
        (JUMP_EQUAL, architecture, "", "refuse"),
        (LOAD, NUMBER_AT, "", ""),
        (JUMP_AT_LEAST, X32_CALLS, "refuse", ""),
        (JUMP_EQUAL, IO_URING_SETUP, "refuse", ""),
        (JUMP_EQUAL, socket_call, "", "allow"),
        (LOAD, ARGUMENT_AT, "", ""),
    ]
    families = (socket.AF_INET, socket.AF_INET6) if network else ()
    steps += [(JUMP_EQUAL, family, "allow", "") for family in families]
    at = {"refuse": len(steps), "allow": len(steps) + 1}
    steps += [(RETURN, REFUSE | EACCES, "", ""), (RETURN, ALLOW, "", "")]
    return b"".join(
        struct.pack(
            "=HBBI", operation, at.get(then, here) - here, at.get(otherwise, here) - here, operand
        )
        for here, (operation, operand, then, otherwise) in enumerate(steps, 1)
    )
