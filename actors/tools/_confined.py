"""Path resolution that never leaves a folder: one component at a time, by file descriptor."""

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from actors.tools._text import shown
from actors.tools.base import ToolError

PATH_CHARACTERS_MAX = 4096
STEPS_MAX = 256
SYMLINKS_MAX = 40

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

_SENTENCES = {
    errno.ENOENT: "{} does not exist.",
    errno.ENOTDIR: "{} leads through something that is not a folder.",
    errno.EISDIR: "{} is a folder.",
    errno.EACCES: "{} may not be touched: permission denied.",
    errno.EPERM: "{} may not be touched: permission denied.",
    errno.ENAMETOOLONG: "{} has a name that is too long.",
    errno.ELOOP: "{} is a symlink that changed while it was opened.",
    errno.ENOSPC: "There is no room left for {}.",
    errno.EDQUOT: "There is no room left for {}.",
}


class Place(Struct, frozen=True):
    """A name in an open folder; ``path`` is where that is, from the root."""

    folder: int
    name: str
    path: str


@contextmanager
def telling(path: str) -> Iterator[None]:
    """Turn what the system says about a path into a sentence. Raises ToolError."""
    try:
        yield
    except OSError as error:
        sentence = _SENTENCES.get(error.errno or 0, "{} can't be used: " + str(error.strerror))
        raise ToolError(sentence.format(shown(path))) from error


class Confined:
    """Finds what paths lead to inside a folder, symlinks followed; none leads out of it.

    An absolute path, a symlink's too, is understood where it begins with the root or with
    one of ``seen_as``.
    """

    def __init__(self, root: Path, seen_as: Iterable[str]) -> None:
        self._root = root
        known = (str(root.absolute()), str(root.resolve()), *seen_as)
        self._prefixes = tuple([_names(prefix) for prefix in known])

    @contextmanager
    def place(self, path: str, *, create: bool = False) -> Iterator[Place]:
        """Yield where a path leads: an open folder and a name in it, which may not exist.

        The name is "." for the root itself. It is not a symlink unless it has just become one,
        so it has to be opened with O_NOFOLLOW. ``create`` makes the folders on the way.
        Raises ToolError or OSError.
        """
        _check(path)
        steps = _Steps(self._root, create=create)
        try:
            yield self._follow(path, steps)
        finally:
            steps.close()

    def _follow(self, path: str, steps: "_Steps") -> Place:
        pending = deque(self._names_of(path, path, steps))
        symlinks = 0
        for _ in range(STEPS_MAX):
            if not pending:
                return steps.place(".")
            name = pending.popleft()
            if name == "..":
                if not steps.up():
                    raise _leads_out(path)
            elif (target := steps.target_of(name)) is not None:
                symlinks += 1
                if symlinks > SYMLINKS_MAX:
                    raise ToolError(f"{shown(path)} leads through too many symlinks.")
                pending.extendleft(reversed(self._names_of(target, path, steps)))
            elif not pending:
                return steps.place(name)
            else:
                steps.down(name)
        raise ToolError(f"{shown(path)} leads through too many folders.")

    def _names_of(self, target: str, path: str, steps: "_Steps") -> tuple[str, ...]:
        names = _names(target)
        if not target.startswith("/"):
            return names
        for prefix in self._prefixes:
            if names[: len(prefix)] == prefix:
                steps.restart()
                return names[len(prefix) :]
        raise _leads_out(path)


class _Steps:
    """Where a walk through folders is: one open folder, and the names that led to it."""

    def __init__(self, root: Path, *, create: bool) -> None:
        self._root = root
        self._create = create
        self._names: list[str] = []
        self._folder = self._open_root()

    def close(self) -> None:
        """Close the folder."""
        os.close(self._folder)

    def place(self, name: str) -> Place:
        """Return a name in the folder as a place."""
        names = self._names if name == "." else [*self._names, name]
        return Place(self._folder, name, "/".join(names) or ".")

    def target_of(self, name: str) -> str | None:
        """Return where a symlink points to, or None where the name is no symlink."""
        try:
            return os.readlink(name, dir_fd=self._folder)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    def down(self, name: str) -> None:
        """Go into a folder, which is made where it is missing and may be."""
        if self._create:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._folder)
        self._move_to(os.open(name, OPEN_FOLDER, dir_fd=self._folder))
        self._names.append(name)

    def up(self) -> bool:
        """Go to the folder that this one was entered from; False in the root.

        It is found from the root again: a folder that was moved has another parent by now.
        """
        if not self._names:
            return False
        names = self._names[:-1]
        self.restart()
        for name in names:
            self._move_to(os.open(name, OPEN_FOLDER, dir_fd=self._folder))
        self._names = names
        return True

    def restart(self) -> None:
        """Go to the root."""
        self._move_to(self._open_root())
        self._names = []

    def _open_root(self) -> int:
        return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)

    def _move_to(self, folder: int) -> None:
        os.close(self._folder)
        self._folder = folder


def _names(path: str) -> tuple[str, ...]:
    return tuple([name for name in path.split("/") if name not in ("", ".")])


def _check(path: str) -> None:
    if not path:
        raise ToolError("The path is empty.")
    if len(path) > PATH_CHARACTERS_MAX:
        raise ToolError(f"A path has {PATH_CHARACTERS_MAX} characters at most.")
    if "\x00" in path:
        raise ToolError("A path can't hold a NUL character.")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ToolError("A path can't hold half a character.") from None


def _leads_out(path: str) -> ToolError:
    return ToolError(f"{shown(path)} is outside the workspace. Use a path inside it.")
