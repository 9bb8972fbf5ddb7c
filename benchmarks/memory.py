"""Memory that a loaded session holds while it is idle, against a bare Pykka actor's.

The growth of the process's resident set over sessions that each had one prompt; the baseline is
as many actors that do nothing, in a process of the same kind.
"""

import gc
import resource
import threading
from pathlib import Path

import pykka

from benchmarks._gateway import open_gateway, prompt
from benchmarks._measure import Figures, Result, alternate, repetitions_of
from benchmarks._store import temporary_folder
from benchmarks._worker import Kind, in_process

SESSIONS = 2_000
SESSIONS_QUICK = 500
CLIENTS = 8
WARM_UP = 32
KIB_MOST = 60.0
SETTLE_S = 0.2


def run(*, quick: bool) -> list[Result]:
    """Measure greenlets and threads, each run in a fresh process."""
    return [_result(kind, quick=quick) for kind in ("gevent", "threads")]


def _result(kind: Kind, *, quick: bool) -> Result:
    count = SESSIONS_QUICK if quick else SESSIONS

    def in_fresh_process(name: str) -> Figures:
        return {"kib": in_process(kind, f"benchmarks.memory:{name}", count=count)}

    runs = {
        "actors": lambda: in_fresh_process("measure_actors"),
        "sessions": lambda: in_fresh_process("measure_sessions"),
    }
    samples = alternate(runs, repetitions_of(quick=True))
    held = samples.median("sessions", "kib")
    return Result(
        f"{kind}, {count:,} idle sessions; bare actors",
        f"{held:.1f} KiB each",
        f"{samples.median('actors', 'kib'):.1f} KiB each",
        samples.ratio("sessions", "actors", "kib"),
        f"< {KIB_MOST:g} KiB",
        held < KIB_MOST,
    )


def measure_sessions(count: int) -> float:
    """Return the KiB of resident memory that a session takes."""
    with (
        temporary_folder() as folder,
        open_gateway(folder / "memory.db", demo_delay_ms=0) as gateway,
    ):
        keys = [f"memory-{index}" for index in range(WARM_UP + count)]

        def prompt_some(client: int, first: int, end: int) -> None:
            for key in keys[first + client : end : CLIENTS]:
                prompt(gateway, key, "Remember this short sentence.")

        _in_clients(prompt_some, 0, WARM_UP)
        before = _resident_kib()
        _in_clients(prompt_some, WARM_UP, len(keys))
        after = _resident_kib()
        assert gateway.registry.count > count
        return (after - before) / count


def measure_actors(count: int) -> float:
    """Return the KiB of resident memory that an actor without a purpose takes."""
    actors = [_Idle.start() for _ in range(WARM_UP)]
    before = _resident_kib()
    actors += [_Idle.start() for _ in range(count)]
    for actor in actors:
        actor.ask(None)
    after = _resident_kib()
    pykka.ActorRegistry.stop_all(block=False)
    return (after - before) / count


class _Idle(pykka.ThreadingActor):
    use_daemon_thread = True

    def on_receive(self, _message: object) -> None:
        """Do nothing."""


def _in_clients(work: object, first: int, end: int) -> None:
    assert callable(work)
    threads = [
        threading.Thread(target=work, args=(client, first, end)) for client in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _resident_kib() -> float:
    threading.Event().wait(SETTLE_S)
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024
