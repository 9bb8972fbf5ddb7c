"""Several real gateways over one PostgreSQL, and the death of their workers."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tests.acceptance.gateway import RunningGateway


class Cluster:
    """Masters over one database; the keyword arguments are their settings."""

    def __init__(self, folder: Path, url: sa.URL, masters: int, **settings: object) -> None:
        self.url = url
        shown = url.render_as_string(hide_password=False)
        self.gateways: list[RunningGateway] = []
        for number in range(masters):
            place = folder / f"master-{number}"
            place.mkdir()
            self.gateways.append(RunningGateway(place, database_url=shown, **settings))
        self.deaths: list[tuple[float, int]] = []
        """When a worker was killed, in seconds since the epoch, and its process id."""

    @contextlib.contextmanager
    def running(self) -> Iterator["Cluster"]:
        """Run all of it."""
        with contextlib.ExitStack() as stack:
            for gateway in self.gateways:
                stack.enter_context(gateway)
            yield self

    @property
    def ports(self) -> list[int]:
        """Return where they listen."""
        return [gateway.port for gateway in self.gateways]

    def workers(self) -> list[int]:
        """Return the process ids of all workers."""
        return [pid for gateway in self.gateways for pid in children_of(gateway.pid)]

    def kill_one(self, dice: random.Random) -> None:
        """Kill -9 a worker; its master will start another one."""
        workers = self.workers()
        if workers:
            pid = dice.choice(workers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.deaths.append((time.time(), pid))

    @property
    def log(self) -> str:
        """Return what all of them have written."""
        return "\n".join(gateway.log for gateway in self.gateways)


def children_of(pid: int) -> list[int]:
    """Return the ids of a process's children; on Linux."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []
