"""Prompts and chats through the real gateway, against a bare Falcon app that answers the same.

Both run under gunicorn's gevent worker, the load comes from a third process. A prompt is
POST /sessions/K/messages with an answer of 20 deltas, durable before it is answered; a chat streams
500 deltas. The bare app parses the request and answers, or streams a chunk for each delta.
"""

from benchmarks import _load
from benchmarks._bare import DELTAS_PER_CHAT
from benchmarks._measure import Figures, Result, alternate, at_least, repetitions_of
from benchmarks._server import bare, gateway
from benchmarks._store import temporary_folder
from benchmarks._worker import in_process

DELTAS = 20
SESSIONS = (32, 1)
SECONDS = 3.0
SECONDS_QUICK = 1.0
CHATS = 16
CHAT_ROUNDS = 20
CHAT_ROUNDS_QUICK = 5
RATIO_LEAST = 0.2
PROMPT = b'{"text":"Say these ten words again and again for the benchmark"}'


def run(*, quick: bool) -> list[Result]:
    """Start the servers and measure them in turn."""
    return [*_prompts(quick=quick), _chat(quick=quick)]


def _prompts(*, quick: bool) -> list[Result]:
    with (
        temporary_folder() as folder,
        gateway(folder / "http.db", demo_deltas=DELTAS, demo_delay_ms=0) as ours,
        bare() as theirs,
    ):
        results: list[Result] = []
        for sessions in SESSIONS:
            results.extend(_prompts_from(sessions, ours, theirs, quick=quick))
        return results


def _prompts_from(sessions: int, ours: int, theirs: int, *, quick: bool) -> list[Result]:
    requests = to_each(sessions, "messages")

    def load(port: int) -> Figures:
        seconds = SECONDS_QUICK if quick else SECONDS
        return in_load("requests", port=port, requests=requests, seconds=seconds)

    runs = {"bare": lambda: load(theirs), "ours": lambda: load(ours)}
    samples = alternate(runs, repetitions_of(quick=quick))
    rates = [f"{samples.median(name, 'per_s'):,.0f}/s" for name in ("ours", "bare")]
    latencies = [
        f"{samples.median(name, 'p50_ms'):.1f}, {samples.median(name, 'p99_ms'):.1f} ms"
        for name in ("ours", "bare")
    ]
    case = f"prompts from {sessions} sessions"
    rate = samples.ratio("ours", "bare", "per_s")
    behind = samples.ratio("ours", "bare", "p99_ms")
    throughput = Result(case, rates[0], rates[1], rate)
    if sessions == max(SESSIONS):
        throughput = at_least(case, rates[0], rates[1], rate, RATIO_LEAST)
    return [
        throughput,
        Result(f"{case}: p50, p99", latencies[0], latencies[1], behind),
    ]


def _chat(*, quick: bool) -> Result:
    requests = to_each(CHATS, "chat")
    rounds = CHAT_ROUNDS_QUICK if quick else CHAT_ROUNDS

    def load(port: int) -> Figures:
        return in_load("streams", port=port, requests=requests, rounds=rounds)

    with (
        temporary_folder() as folder,
        gateway(folder / "chat.db", demo_deltas=DELTAS_PER_CHAT, demo_delay_ms=0) as ours,
        bare() as theirs,
    ):
        runs = {"bare": lambda: load(theirs), "ours": lambda: load(ours)}
        samples = alternate(runs, repetitions_of(quick=quick))
    rates = [
        f"{samples.median(name, 'per_s') * DELTAS_PER_CHAT:,.0f} deltas/s"
        for name in ("ours", "bare")
    ]
    case = f"chat, {CHATS} sessions x {DELTAS_PER_CHAT} model deltas"
    return Result(case, rates[0], rates[1], samples.ratio("ours", "bare", "per_s"))


def to_each(sessions: int, resource: str) -> list[str]:
    """Return a prompt for each of so many sessions, as a request."""
    return [
        _load.request_bytes("POST", f"/sessions/http-{index}/{resource}", PROMPT).decode()
        for index in range(sessions)
    ]


def in_load(function: str, **arguments: object) -> Figures:
    """Make the load in a process of its own; return what it measured."""
    figures: Figures = in_process("threads", f"benchmarks._load:{function}", **arguments)
    return figures
