"""One run of the chaos: load, deaths, quiet, checks."""

import random
import time
from pathlib import Path

import sqlalchemy as sa
from msgspec import Struct

from tests.acceptance.gateway import until
from tests.chaos.checks import (
    LogOfAll,
    check_acknowledged,
    check_readers,
    check_runs,
    keys,
    takeovers_s,
)
from tests.chaos.clients import Clients
from tests.chaos.cluster import Cluster
from tests.postgres.server import connected

SETTLE_S = 120.0
ACTIVE = "SELECT count(*) FROM streams WHERE active"


class Size(Struct, frozen=True):
    """How large it is."""

    seconds: float
    kill_every_s: float
    sessions: int
    prompting: int
    reading: int
    masters: int = 2
    workers: int = 2
    lease_s: float = 10.0
    demo_delay_ms: int = 5


class Report(Struct, frozen=True):
    """What came of it."""

    deaths: int
    acknowledged: int
    events: int
    frames: int
    waited_s: list[float]


def run(folder: Path, url: sa.URL, size: Size, seed: int, **settings: object) -> Report:
    """Make the chaos and check what it leaves; raises AssertionError when something is wrong."""
    dice = random.Random(seed)
    cluster = Cluster(
        folder,
        url,
        size.masters,
        workers=size.workers,
        lease_s=size.lease_s,
        demo_delay_ms=size.demo_delay_ms,
        **settings,
    )
    sessions = keys(size.sessions)
    with cluster.running():
        clients = Clients(
            cluster.ports, sessions, prompting=size.prompting, reading=size.reading, seed=seed
        )
        clients.start()
        deadline = time.monotonic() + size.seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(size.kill_every_s, left))
            if left > size.kill_every_s:
                cluster.kill_one(dice)
        clients.stop_prompting()
        with connected(url) as connection:
            until(
                lambda: connection.execute(ACTIVE).fetchone() == (0,),
                f"all sessions are idle\n{cluster.log[-3_000:]}",
                deadline_s=SETTLE_S,
            )
        until(lambda: _have_read_all(url, clients), "readers have all", deadline_s=SETTLE_S)
        clients.stop_reading()
    log = LogOfAll(url, sessions)
    check_runs(log)
    check_acknowledged(log, clients.seen)
    assert not clients.seen.refused, clients.seen.refused[:3]
    return Report(
        len(cluster.deaths),
        len(clients.seen.acknowledged),
        sum(map(len, log.stored.values())),
        check_readers(log, clients.seen),
        takeovers_s(log, [at for at, _ in cluster.deaths]),
    )


def _have_read_all(url: sa.URL, clients: Clients) -> bool:
    with connected(url) as connection:
        found = connection.execute("SELECT stream_id, version FROM streams").fetchall()
    versions = dict(found)
    return all(
        (frames[-1][0] if frames else 0) >= versions.get(f"session:{key}", 0)
        for (key, _number), frames in clients.seen.frames.items()
    )
