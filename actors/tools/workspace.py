"""A session's folder, and the only way in which tools touch it.

Whatever is done inside it meanwhile, a symlink put in a folder's place included, no path leads out.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

from msgspec import Struct

from actors.tools._confined import OPEN_FOLDER, Confined, Place, telling
from actors.tools._text import shown
from actors.tools.base import ToolError

SEEN_AS = "/workspace"
"""Where commands in the sandbox see it."""

OUTPUT_FOLDER = ".sessiond/output"
OUTPUT_NAME_CHARACTERS = 100

ENTRIES_MAX = 20_000
WALKED_MAX = 200_000

Kind = Literal["file", "folder", "link", "other"]

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_MAKE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_UNSAFE = re.compile("[^A-Za-z0-9_-]")


class Entry(Struct, frozen=True):
    """Something in a folder; ``path`` is from the root. A symlink is a link, wherever it leads."""

    path: str
    kind: Kind

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition("/")[2]


class Folder(Struct):
    """What a folder holds, by name; not ``whole`` where it holds more than was asked for."""

    path: str
    entries: list[Entry]
    whole: bool


class Workspace:
    """Access to one folder and nothing outside it.

    Paths are relative to it; absolute ones are taken where they begin with it or with SEEN_AS.
    Symlinks are followed as far as they lead to something inside. Everything raises ToolError,
    with a sentence for the model. Holds nothing open between calls.
    """

    def __init__(self, root: Path) -> None:
        self._confined = Confined(root, [SEEN_AS])

    def path_of(self, path: str) -> str:
        """Return where a path leads, from the root and without symlinks; "." for the root."""
        with self._place(path) as place:
            return place.path

    def stat(self, path: str) -> os.stat_result:
        """Return the status of what a path leads to."""
        with self._place(path) as place:
            return _status(place)

    @contextmanager
    def open_file(self, path: str) -> Iterator[BinaryIO]:
        """Open a regular file for reading; never waits for a pipe or a device."""
        with self._place(path) as place:
            _check_regular(_status(place), path)  # opening a device may do something
            descriptor = os.open(place.name, _OPEN_FILE, dir_fd=place.folder)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
                _check_regular(os.fstat(descriptor), path)
                yield file

    def read(self, path: str, bytes_max: int) -> bytes:
        """Return what a file holds. Raises ToolError where that is more than allowed."""
        with self.open_file(path) as file:
            data = file.read(bytes_max + 1)
        if len(data) > bytes_max:
            raise ToolError(f"{shown(path)} is larger than {bytes_max} bytes.")
        return data

    def write(self, path: str, data: bytes) -> None:
        """Make a file hold the data, or leave it as it was; its permissions are kept.

        The folders that it is in are made. A reader sees the old or the new data. Not synced.
        """
        with self._place(path, create=True) as place:
            permissions = _permissions(place, path)
            temporary = f".{secrets.token_hex(8)}.tmp"
            try:
                with _new_file(place.folder, temporary) as file:
                    file.write(data)
                    if permissions is not None:
                        os.fchmod(file.fileno(), permissions)
                _rename(place.folder, temporary, place.name)
            except BaseException:
                _remove(place.folder, temporary)
                raise

    def folder(self, path: str, entries_max: int = ENTRIES_MAX) -> Folder:
        """Return what a folder holds; no more than entries_max are read, in no order."""
        with self._place(path) as place:
            _check_folder(_status(place), path)
            descriptor = os.open(place.name, OPEN_FOLDER, dir_fd=place.folder)
            try:
                return _listed(descriptor, place.path, entries_max)
            finally:
                os.close(descriptor)

    def walk(self, path: str, entries_max: int = WALKED_MAX) -> Iterator[Folder]:
        """Yield the folder that a path leads to and all below it, each before those in it.

        What is taken out of ``entries`` is not entered, nor are symlinks and what can't be
        read. Ends after entries_max entries; the last folder is then not ``whole``.
        """
        folder: Folder | None = self.folder(path, min(entries_max, ENTRIES_MAX))
        pending: list[str] = []
        while folder is not None:
            entries_max -= len(folder.entries)
            yield folder
            below = [each.path for each in folder.entries if each.kind == "folder"]
            pending.extend(reversed(below))
            folder = self._next_of(pending, min(entries_max, ENTRIES_MAX))

    def _next_of(self, pending: list[str], entries_max: int) -> Folder | None:
        while pending:
            path = pending.pop()
            if entries_max <= 0:
                pending.clear()
                return Folder(path, [], whole=False)
            with suppress(ToolError):
                return self.folder(path, entries_max)
        return None

    def output_path(self, tool_call_id: str) -> str:
        """Return where the whole output of a tool call is kept, when it is too long to tell."""
        name = _UNSAFE.sub("_", tool_call_id)[:OUTPUT_NAME_CHARACTERS]
        if name != tool_call_id:
            digest = sha256(tool_call_id.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{name}-{digest[:16]}"
        return f"{OUTPUT_FOLDER}/{name}.txt"

    @contextmanager
    def new_output(self, tool_call_id: str) -> Iterator[BinaryIO]:
        """Open the file at ``output_path`` for writing, anew; Git is told to overlook it."""
        self._overlook_outputs()
        path = self.output_path(tool_call_id)
        with self._place(path, create=True) as place:
            _remove(place.folder, place.name)
            with _new_file(place.folder, place.name) as file:
                yield file

    def write_output(self, tool_call_id: str, data: bytes) -> str:
        """Keep the whole output of a tool call, and return where."""
        with self.new_output(tool_call_id) as file:
            file.write(data)
        return self.output_path(tool_call_id)

    def _overlook_outputs(self) -> None:
        with (
            self._place(f"{OUTPUT_FOLDER}/.gitignore", create=True) as place,
            suppress(FileExistsError),
            _new_file(place.folder, place.name) as file,
        ):
            file.write(b"*\n")

    @contextmanager
    def _place(self, path: str, *, create: bool = False) -> Iterator[Place]:
        with telling(path), self._confined.place(path, create=create) as place:
            yield place


def _status(place: Place) -> os.stat_result:
    return os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)


def _check_regular(status: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ToolError(f"{shown(path)} is a folder.")
    if not stat.S_ISREG(status.st_mode):
        raise ToolError(f"{shown(path)} is not a regular file.")


def _check_folder(status: os.stat_result, path: str) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise ToolError(f"{shown(path)} is not a folder.")


def _permissions(place: Place, path: str) -> int | None:
    """Return what a file's replacement has to keep, or None for a new file. Raises ToolError."""
    try:
        status = _status(place)
    except FileNotFoundError:
        return None
    _check_regular(status, path)
    if not status.st_mode & 0o222:  # a rename would not mind
        raise ToolError(f"{shown(path)} is read-only.")
    return status.st_mode & 0o777


def _new_file(folder: int, name: str) -> BinaryIO:
    return open(os.open(name, _MAKE_FILE, 0o666, dir_fd=folder), "wb")  # noqa: PTH123 - a descriptor


def _rename(folder: int, old: str, new: str) -> None:
    os.replace(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def _remove(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _listed(descriptor: int, path: str, entries_max: int) -> Folder:
    with os.scandir(descriptor) as found:
        read = [(entry.name, _kind_of(entry)) for entry in islice(found, entries_max)]
        whole = next(found, None) is None
    inside = "" if path == "." else f"{path}/"
    entries = [Entry(inside + name, kind) for name, kind in sorted(read)]
    return Folder(path, entries, whole)


def _kind_of(entry: os.DirEntry[str]) -> Kind:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"
