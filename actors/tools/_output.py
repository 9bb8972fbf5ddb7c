"""What a command prints: its end for the model, all of it in a file, and the digest of it all."""

import codecs
import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from actors.tools.base import ToolLimits

FOLDER = (".sessiond", "output")
NAME_CHARACTERS = 80
TRIES = 3

REPORT_S = 0.1
REPORT_CHARACTERS = 32_768
"""What watchers get at once; of more they get the end."""

OUTPUT_BYTES_MAX = 67_108_864

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class Seen(Struct, frozen=True):
    """What was printed. ``text`` is its end where it was more than the limit.

    ``file`` is relative to the workspace and holds the first ``file_bytes``; it is empty where
    the text is all there was, or no file could be made.
    """

    text: str
    total_bytes: int
    sha256: str
    truncated: bool
    file: str
    file_bytes: int


class Output:
    """Takes a command's output. Implements Sink; memory stays within a few ``output_chars``."""

    def __init__(
        self,
        workspace: Path,
        call_id: str,
        limits: ToolLimits,
        report: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workspace = workspace
        self._name = f"{_UNSAFE.sub('_', call_id)[:NAME_CHARACTERS] or 'call'}.txt"
        self._limits = limits
        self._report = report
        self._clock_s = clock_s
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._digest = hashlib.sha256()
        self._total = 0
        self._whole = bytearray()
        self._tail = ""
        self._truncated = False
        self._file: int | None = None
        self._file_bytes = 0
        self._gathered = ""
        self._reported_s = clock_s() - REPORT_S

    def add(self, chunk: bytes) -> bool:
        """Take some; return whether more is wanted."""
        self._total += len(chunk)
        self._digest.update(chunk)
        self._keep(self._decoder.decode(chunk), chunk)
        return self._total <= OUTPUT_BYTES_MAX

    def tick(self) -> None:
        """Report what has gathered, if that is due."""
        if self._gathered and self._clock_s() - self._reported_s >= REPORT_S:
            self._reported_s = self._clock_s()
            gathered, self._gathered = self._gathered, ""
            self._report(gathered)

    def finish(self) -> Seen:
        """Report the rest, and return what was seen; the file is written."""
        self._keep(self._decoder.decode(b"", final=True), b"")
        self._reported_s -= REPORT_S
        self.tick()
        kept = self._file is not None
        self.close()
        return Seen(
            self._tail,
            self._total,
            self._digest.hexdigest(),
            self._truncated,
            "/".join((*FOLDER, self._name)) if kept else "",
            self._file_bytes,
        )

    def close(self) -> None:
        """Close the file; harmless when done before."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _keep(self, text: str, chunk: bytes) -> None:
        self._gathered = (self._gathered + text)[-REPORT_CHARACTERS:]
        self._tail += text
        if not self._truncated:
            self._whole += chunk
            if len(self._tail) <= self._limits.output_chars:
                return
            self._truncated = True
            with suppress(OSError):
                self._file = create_file(self._workspace, FOLDER, self._name)
            chunk, self._whole = bytes(self._whole), bytearray()
        self._tail = self._tail[-self._limits.output_chars :]
        self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        """Write what still fits; a file that can't be written is left as it is."""
        chunk = chunk[: self._limits.file_bytes - self._file_bytes]
        if self._file is not None and chunk:
            with suppress(OSError):
                self._file_bytes += os.write(self._file, chunk)


def create_file(workspace: Path, folders: tuple[str, ...], name: str) -> int:
    """Make a file for writing, inside the workspace whatever was put there before.

    No link is followed: one that stands where a folder or the file belongs is removed. Raises
    OSError.
    """
    at = os.open(workspace, FOLDER_FLAGS)
    try:
        for folder in folders:
            inner = _enter(at, folder)
            os.close(at)
            at = inner
        for _ in range(TRIES):
            with suppress(FileExistsError):
                return os.open(name, FILE_FLAGS, 0o644, dir_fd=at)
            os.unlink(name, dir_fd=at)
        raise FileExistsError(name)
    finally:
        os.close(at)


def _enter(at: int, folder: str) -> int:
    for _ in range(TRIES):
        with suppress(FileExistsError):
            os.mkdir(folder, 0o755, dir_fd=at)
        try:
            return os.open(folder, FOLDER_FLAGS, dir_fd=at)
        except OSError:
            os.unlink(folder, dir_fd=at)
    raise NotADirectoryError(folder)
