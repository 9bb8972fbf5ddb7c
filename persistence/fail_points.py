"""Deaths on demand, for tests: the process kills itself at a commit that the environment names.

``SESSIOND_FAIL_POINT="before run.started"`` kills it when the first event of that type is about to
be written, ``"after run.started 2"`` when the second one is durable and nobody has been told.
"""

import os
import signal
from collections.abc import Mapping, Sequence

from persistence.errors import PersistenceError
from persistence.event_log import SqlEventLog
from persistence.records import Append, Head, Write

VARIABLE = "SESSIOND_FAIL_POINT"


class FailPoint:
    """When to die: before or after the commit that has the so-many-th event of a type."""

    def __init__(self, words: str) -> None:
        moment, self._type, *count = words.split()
        self.before = moment == "before"
        self._left = int(count[0]) if count else 1

    def reached(self, batch: Sequence[Write]) -> bool:
        """Count the batch's events; tell whether the one that is meant is among them."""
        types = [
            event.type for write in batch if isinstance(write, Append) for event in write.events
        ]
        found = types.count(self._type)
        self._left -= found
        return found > 0 and self._left <= 0


class FailingEventLog(SqlEventLog):
    """The log of a process that dies at its fail point."""

    fail_point: FailPoint

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        """See EventLog.write."""
        reached = self.fail_point.reached(batch)
        if reached and self.fail_point.before:
            _die()
        outcomes = super().write(batch)
        if reached:
            _die()
        return outcomes


def log_class(environment: Mapping[str, str]) -> type[SqlEventLog]:
    """Return what the log is made of, with the fail point that the environment names, if any."""
    words = environment.get(VARIABLE)
    if not words:
        return SqlEventLog
    return type("FailingEventLog", (FailingEventLog,), {"fail_point": FailPoint(words)})


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
