"""The files by which the workers of one gunicorn master share what they count.

prometheus_client decides at its import, by the environment, whether a process's values lie in such
files. So the master names their directory before it forks, and imports nothing of it until then.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "sessiond-metrics-"
TOTALS_LOCK = "totals.lock"
DEAD = 0
"""Stands for all dead processes together in the names of their files; no process has this id."""

ADDED_UP = ("counter", "histogram")
LEFT_BEHIND_S = 60.0
"""A directory younger than this may belong to a master that has yet to lock it."""

logger = logging.getLogger(__name__)


class MetricsFiles:
    """A master's directory, private to it and its workers, named in ``environment``.

    It is locked as long as one of them lives, which also keeps systemd-tmpfiles away. What other
    masters of the same owner left behind, killed, is removed. A directory that the operator has
    named is used as it is: it has to be this master's alone, and empty.
    """

    def __init__(
        self, environment: MutableMapping[str, str], parent: Path, owner: int, group: int
    ) -> None:
        self._own: Path | None = None
        if not _is_operators(environment.get(DIRECTORY_VARIABLE), parent):
            _remove_left_behind(parent, owner)
            self._own = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            os.chown(self._own, owner, group)
            self._descriptor = os.open(self._own, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            environment[DIRECTORY_VARIABLE] = str(self._own)

    def remove(self) -> None:
        """Remove the directory, unless it is the operator's; the workers have ended."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            self._own = None
            os.close(self._descriptor)


def make_files(owner: int, group: int) -> MetricsFiles:
    """Return the files of this master, whose workers run as ``owner`` and ``group``."""
    return MetricsFiles(os.environ, Path(tempfile.gettempdir()), owner, group)


@contextlib.contextmanager
def totals_locked(directory: Path, operation: int) -> Iterator[bool]:
    """Try for the lock on the sums of dead processes; tell whether it is held. Never waits."""
    with (directory / TOTALS_LOCK).open("ab") as file:
        try:
            fcntl.flock(file, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def bury(process_id: int) -> None:
    """Forget a dead process's gauges, and add what it counted to what all dead ones did.

    So there are as many files as live workers, however many have ended. While somebody reads them
    the counts stay in their own files, where they are just as good.
    """
    from prometheus_client.multiprocess import mark_process_dead  # not before the variable is set

    directory = Path(os.environ[DIRECTORY_VARIABLE])
    try:
        mark_process_dead(process_id, str(directory))  # type: ignore[no-untyped-call]
        with totals_locked(directory, fcntl.LOCK_EX) as held:
            for kind in ADDED_UP if held else ():
                _add_up(directory, kind, process_id)
    except (OSError, RuntimeError, ValueError, struct.error):  # gunicorn's master would end by it
        logger.exception("What worker %d has counted can't be added up.", process_id)


def _add_up(directory: Path, kind: str, process_id: int) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    own = directory / f"{kind}_{process_id}.db"
    totals = directory / f"{kind}_{DEAD}.db"
    if not own.exists():
        return
    if not totals.exists():
        own.rename(totals)
        return
    sums = MmapedDict(str(totals))  # type: ignore[no-untyped-call]
    for name, value, _at, _position in MmapedDict.read_all_values_from_file(str(own)):  # type: ignore[no-untyped-call]
        before, _ = sums.read_value(name)  # type: ignore[no-untyped-call]
        sums.write_value(name, before + value, 0.0)  # type: ignore[no-untyped-call]
    sums.close()  # type: ignore[no-untyped-call]
    own.unlink()


def _is_operators(named: str | None, parent: Path) -> bool:
    """Tell whether an operator named the directory, not the master that this one replaces."""
    if not named:
        return False
    path = Path(named)
    return not (path.parent == parent and path.name.startswith(PREFIX))


def _remove_left_behind(parent: Path, owner: int) -> None:
    """Remove the directories of masters that ended without doing so themselves."""
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another master has it, or was quicker
            status = path.lstat()
            if status.st_uid != owner or time.time() - status.st_mtime < LEFT_BEHIND_S:
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(descriptor)
