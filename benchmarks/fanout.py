"""One session's events to 200 readers, against a bare generator that sends each the same bytes.

Once for an answer of 200 deltas at 5 ms, which says how far the last reader is behind the first;
once for prompts one after the other, answered at once, which says how many frames a second go out.
The bare app sends as many chunks of the same size to each reader, as fast as they are taken.
"""

from benchmarks import _load
from benchmarks._measure import Figures, Result, Samples, repetitions_of
from benchmarks._server import bare, gateway
from benchmarks._store import temporary_folder
from benchmarks._worker import in_process

READERS = 200
DELTAS = 200
DELAY_MS = 5
PROMPTS = 40
PROMPTS_QUICK = 10
KEY = "fanout"
PROMPT = b'{"text":"Say these ten words again and again for the benchmark"}'


def run(*, quick: bool) -> list[Result]:
    """Measure the paced answer, then the burst."""
    paced = _measured(1, DELTAS, DELAY_MS, quick=quick)
    burst = _measured(PROMPTS_QUICK if quick else PROMPTS, 0, 0, quick=quick)
    return [_lag(paced), _rate("answers at once", burst)]


def _measured(prompts: int, deltas: int, delay_ms: int, *, quick: bool) -> Samples:
    """Run the gateway, then the bare app with what each reader got, again and again."""
    runs: dict[str, list[Figures]] = {"ours": [], "bare": []}
    with (
        temporary_folder() as folder,
        gateway(folder / "fanout.db", demo_deltas=deltas, demo_delay_ms=delay_ms) as ours,
        bare() as theirs,
    ):
        _in_load("requests", port=ours, requests=[_prompt()], seconds=0)
        for _ in range(repetitions_of(quick=quick)):
            mine = _fan_out(ours, prompts)
            runs["ours"].append(mine)
            runs["bare"].append(_bare(theirs, mine))
    return Samples(runs)


def _fan_out(port: int, prompts: int) -> Figures:
    events = _load.request_bytes("GET", f"/sessions/{KEY}/events").decode()
    return _in_load(
        "fan_out", port=port, readers=READERS, events=events, prompt=_prompt(), prompts=prompts
    )


def _bare(port: int, mine: Figures) -> Figures:
    frames = int(mine["frames"])
    path = f"/sessions/{KEY}/events?frames={frames}&bytes={int(mine['bytes'])}"
    requests = [_load.request_bytes("GET", path).decode()] * READERS
    streams = _in_load("streams", port=port, requests=requests, rounds=1)
    return {**streams, "per_s": streams["per_s"] * frames}


def _lag(samples: Samples) -> Result:
    frames = samples.median("ours", "frames")
    worst = samples.median("ours", "behind_max_ms")
    alone_ms = READERS / samples.median("bare", "per_s") * 1_000
    return Result(
        f"{DELTAS} deltas at {DELAY_MS} ms, {frames:.0f} frames to {READERS} readers: "
        "the last behind the first, p50 and worst; bare: time of one round",
        f"{samples.median('ours', 'behind_p50_ms'):.1f}, {worst:.1f} ms",
        f"{alone_ms:.1f} ms",
        samples.median("ours", "behind_p50_ms") / alone_ms,
    )


def _rate(case: str, samples: Samples) -> Result:
    return Result(
        f"{case}, {READERS} readers",
        f"{samples.median('ours', 'per_s'):,.0f} frames/s",
        f"{samples.median('bare', 'per_s'):,.0f} frames/s",
        samples.ratio("ours", "bare", "per_s"),
    )


def _prompt() -> str:
    return _load.request_bytes("POST", f"/sessions/{KEY}/messages", PROMPT).decode()


def _in_load(function: str, **arguments: object) -> Figures:
    figures: Figures = in_process("threads", f"benchmarks._load:{function}", **arguments)
    return figures
