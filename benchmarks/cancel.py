"""How soon a command that is cancelled has ended, with all that it has started.

Ours: the tool ``bash`` in the best sandbox that works here, and in none, from the cancellation
until the tool has raised, so that its session goes on. Baseline: SIGKILL to a process group that
runs the same, until it was waited for. The command ignores what asks it to end. What counts is
the 200 ms that a person takes for at once.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from actors.tools.base import Cancellation, ToolCancelled, ToolContext, ToolLimits
from actors.tools.bash import BashTool
from actors.tools.sandbox import Sandbox, probe
from benchmarks._measure import Figures, Result, Samples, alternate, percentile, repetitions_of
from benchmarks._store import temporary_folder
from web.settings import Settings

COMMAND = "trap '' TERM INT HUP; echo started; sleep 300; sleep 300"
TIMES = 20
TIMES_QUICK = 5
MS_MOST = 200.0


def run(*, quick: bool) -> list[Result]:
    """Cancel again and again."""
    times = TIMES_QUICK if quick else TIMES
    with temporary_folder() as folder:
        found = [probe(Settings.model_validate(each)) for each in ({}, {"sandbox": "none"})]
        sandboxes: dict[str, Sandbox] = {each.name: each for each in found}
        runs = {
            name: partial(_figures, partial(_cancelled_ms, sandbox, folder), times)
            for name, sandbox in sandboxes.items()
        }
        runs["bare"] = partial(_figures, _killed_ms, times)
        samples = alternate(runs, repetitions_of(quick=quick))
    return [_result(name, samples) for name in sandboxes]


def _result(name: str, samples: Samples) -> Result:
    longest = max(each["longest_ms"] for each in samples.runs[name])
    return Result(
        f"cancelled in the sandbox {name}; SIGKILL to the group",
        f"{samples.median(name, 'ms'):.1f} ms, at most {longest:.0f} ms",
        f"{samples.median('bare', 'ms'):.1f} ms",
        samples.ratio(name, "bare", "ms"),
        f"within {MS_MOST:g} ms",
        longest <= MS_MOST,
    )


def _figures(once: Callable[[], float], times: int) -> Figures:
    took = [once() for _ in range(times)]
    return {"ms": percentile(took, 0.5), "longest_ms": max(took)}


def _cancelled_ms(sandbox: Sandbox, workspace: Path) -> float:
    started, cancellation = threading.Event(), Cancellation()
    began = 0.0

    def cancel() -> None:
        nonlocal began
        started.wait()
        began = time.perf_counter()
        cancellation.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    context = ToolContext(
        workspace, "key", "prompt", "call", cancellation, lambda _text: started.set(), ToolLimits()
    )
    try:
        BashTool(sandbox).run({"command": COMMAND}, context)
    except ToolCancelled:
        return (time.perf_counter() - began) * 1000
    finally:
        canceller.join()
    raise AssertionError("the command ended by itself")


def _killed_ms() -> float:
    process = subprocess.Popen(
        ["/bin/sh", "-c", COMMAND], stdout=subprocess.PIPE, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.perf_counter()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return (time.perf_counter() - began) * 1000
