"""Prompts through one, two and four workers over PostgreSQL, against one over SQLite.

The same load as benchmarks.http: 32 sessions, 20 deltas an answer, durable before it is answered.
With one worker every prompt is asked of its session's owner; with more of them most are asked of
another process, so that each goes through the inbox and its answer comes from the log. PostgreSQL
runs on the same machine and takes its part of the processors.
"""

from benchmarks._measure import Figures, Result, alternate, repetitions_of
from benchmarks._server import gateway
from benchmarks._store import temporary_folder, url_of
from benchmarks.http import DELTAS, in_load, to_each
from tests.postgres.server import running_server

SESSIONS = 32
WORKERS = (1, 2, 4)
SECONDS = 3.0
SECONDS_QUICK = 1.0


def run(*, quick: bool) -> list[Result]:
    """Measure each number of workers against SQLite, in turns."""
    results: list[Result] = []
    for workers in WORKERS:
        results.extend(_against_sqlite(workers, quick=quick))
    return results


def _against_sqlite(workers: int, *, quick: bool) -> list[Result]:
    requests = to_each(SESSIONS, "messages")
    seconds = SECONDS_QUICK if quick else SECONDS

    def load(port: int) -> Figures:
        return in_load("requests", port=port, requests=requests, seconds=seconds)

    with temporary_folder() as folder, running_server(durable=True) as server:
        url = server.new_database(migrated=True).render_as_string(hide_password=False)
        settings = {"demo_deltas": DELTAS, "demo_delay_ms": 0}
        with (
            gateway(url_of(folder / "one.db"), **settings) as one,
            gateway(url, workers=workers, **settings) as many,
        ):
            samples = alternate(
                {"sqlite": lambda: load(one), "postgresql": lambda: load(many)},
                repetitions_of(quick=quick),
            )
    case = f"{workers} workers over PostgreSQL"
    both = ("postgresql", "sqlite")
    ours, theirs = (f"{samples.median(name, 'per_s'):,.0f}/s" for name in both)
    rate = samples.ratio(*both, "per_s")
    late, late_too = (
        f"{samples.median(name, 'p50_ms'):.1f}, {samples.median(name, 'p99_ms'):.1f} ms"
        for name in both
    )
    behind = samples.ratio(*both, "p99_ms")
    return [
        Result(f"{case}: prompts", ours, theirs, rate),
        Result(f"{case}: p50, p99", late, late_too, behind),
    ]
