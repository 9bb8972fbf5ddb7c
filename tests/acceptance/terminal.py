"""A command in a terminal of its own: what it writes, and what somebody types."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE_S = 60.0
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """Runs a command with a terminal as its input and output; a context manager."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.raw = ""
        self._from = 0

        def take_terminal() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # it may be ignored in the background
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment | {"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509 - it makes two calls of the system
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """Return all that was written, without colours."""
        return _COLOURS.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        """Type something; what is awaited from now on comes after it."""
        self._from = len(self.text)
        os.write(self._master, text.encode())

    def wait_for(self, text: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Read until a text was written since something was typed last; then since that."""
        self._read_until(
            lambda: text in self.text[self._from :], f"{text!r} is written", deadline_s
        )
        self._from += self.text[self._from :].index(text) + len(text)

    def status(self) -> int:
        """Wait for the command's end and return its exit status."""
        self._read_until(lambda: self._process.poll() is not None, "the command ends")
        assert self._process.returncode is not None
        return self._process.returncode

    def _read_until(
        self, reached: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S
    ) -> None:
        until = time.monotonic() + deadline_s
        while not reached():
            left = until - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{what}: not within {deadline_s:g} s; there is:\n{self.text}")
            if select.select([self._master], [], [], min(left, 0.1))[0]:
                try:
                    self.raw += os.read(self._master, 65_536).decode(errors="replace")
                except OSError:  # nobody has the other side open any more
                    self._process.wait(left)
