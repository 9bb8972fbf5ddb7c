"""Workers that are replaced, by SIGHUP, SIGTERM or their number of requests, while they work."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from actors.session import events as e
from persistence.engine import parse_url
from tests.acceptance.gateway import until, words
from tests.faults.checker import RUN_ENDS, Seen, check, events_of
from tests.faults.conftest import Started
from tests.faults.world import (
    FaultyGateway,
    Following,
    Load,
    Place,
    head_of,
    is_alive,
    path_of,
    prompt,
    until_idle,
)
from tests.postgres.server import connected

GRACE_S = 1

SESSIONS = ("l:1", "l:2", "l:3")
TEXT = words(25)
LONG_S = 120.0
RELOAD_EVERY_S = 10.0

Replace = Callable[[FaultyGateway], None]


def reload(gateway: FaultyGateway) -> None:
    """Send SIGHUP and wait until every worker is another one."""
    before = gateway.workers()
    gateway.signal(signal.SIGHUP)
    until_gone(before)


def wear_out(gateway: FaultyGateway) -> None:
    """Wait until every worker has served as many requests as it may."""
    until_gone(gateway.workers())


def until_gone(workers: list[int]) -> None:
    until(lambda: not any(map(is_alive, workers)), "all workers are replaced")


def workers_of(place: Place) -> int:
    return 1 if place.name == "sqlite" else 2


def replace_under_load(
    gateway: FaultyGateway, replace: Replace, *, seconds: float = 0, every_s: float = 0
) -> None:
    """Replace the workers again and again while clients prompt and read; nothing is lost."""
    seen = Seen()
    with Load([gateway], seen, SESSIONS, TEXT) as load:
        deadline = time.monotonic() + seconds
        until_more(load)
        while True:
            began = time.monotonic()
            replace(gateway)
            until_more(load)
            if began + every_s > deadline:
                break
            time.sleep(max(0.0, began + every_s - time.monotonic()))
        load.settle()
    gateway.check(seen)


def until_more(load: Load) -> None:
    """Wait until more prompts have been accepted, in every process that there is."""
    sent = load.sent
    until(lambda: load.sent > sent + 3, "the load goes on")


def test_workers_are_replaced_by_hup_while_clients_prompt_and_read(
    place: Place, started: Started
) -> None:
    gateway = started(place.gateway(grace_s=GRACE_S, workers=workers_of(place)))
    replace_under_load(gateway, reload)


def test_a_worker_is_replaced_after_its_requests_while_clients_prompt_and_read(
    sqlite_place: Place, started: Started
) -> None:
    gateway = started(sqlite_place.gateway(grace_s=GRACE_S, max_requests=30))
    replace_under_load(gateway, wear_out)


@pytest.mark.faults
def test_two_minutes_of_hups_lose_nothing(
    place: Place, started: Started, worker_class: str
) -> None:
    settings: dict[str, object] = {"workers": workers_of(place), "worker_class": worker_class}
    gateway = started(place.gateway(grace_s=GRACE_S, **settings))
    replace_under_load(gateway, reload, seconds=LONG_S, every_s=RELOAD_EVERY_S)


@pytest.mark.faults
def test_a_minute_of_worn_out_workers_loses_nothing(
    place: Place, started: Started, worker_class: str
) -> None:
    settings: dict[str, object] = {"workers": workers_of(place), "worker_class": worker_class}
    gateway = started(place.gateway(grace_s=GRACE_S, max_requests=20, **settings))
    replace_under_load(gateway, wear_out, seconds=LONG_S / 2)


# SIGTERM in each phase

RULES = [
    {"tool": "bash", "action": "allow", "unsandboxed": True},
    {"tool": "write", "action": "ask"},
]
TOOLS: dict[str, object] = {
    "tools": "all",
    "sandbox": "none",
    "tool_rules": json.dumps(RULES),
    "demo_delay_ms": 10,
}
LONG = words(3_000)
PROMPTS = {
    "idle": ["hello"],
    "streaming": [LONG],
    "tool": ['!bash {"command": "sleep 300"}'],
    "queue": [LONG, "waits"],
    "approval": ['!write {"path": "a.txt", "content": "x"}'],
}
"""What a session is prompted with to be in each phase."""

ENDS = {
    "idle": ["run.completed"],
    "streaming": ["run.interrupted"],
    "tool": ["run.interrupted"],
    "queue": ["run.interrupted", "run.completed"],
    "approval": ["run.completed"],
}
"""How its runs have ended once another process has carried on, and somebody has approved."""


def until_in(gateway: FaultyGateway, phase: str, seen: Seen, reader: Following) -> None:
    """Prompt the phase's session and wait until it is in that phase."""
    for number, text in enumerate(PROMPTS[phase]):
        assert prompt(gateway, seen, phase, text, str(number)).status == 202
    reached: dict[str, Callable[[], object]] = {
        "idle": lambda: reader.settled,
        "streaming": lambda: reader.has("token"),
        "tool": lambda: reader.has("tool_start"),
        "queue": lambda: reader.has("token"),
        "approval": lambda: reader.has("approval_request"),
    }
    until(reached[phase], f"{phase} is reached")


def check_released(place: Place) -> None:
    """Check that nobody is left who could own anything, where there could be others."""
    if place.name != "postgres":
        return
    with connected(parse_url(place.url)) as connection:
        assert connection.execute("SELECT name FROM workers").fetchall() == []
        owners = connection.execute("SELECT DISTINCT owner FROM streams WHERE owner <> '*'")
        assert owners.fetchall() == []


def carry_on(gateway: FaultyGateway, phases: list[str], seen: Seen) -> None:
    """Start anew, approve what waits, and check how each phase's runs have ended."""
    gateway.set(demo_delay_ms=0)  # what waited is answered with all that was asked before it
    gateway.start()
    if "approval" in phases:
        (approval,) = gateway.snapshot("approval")["approvals"]
        path = path_of("approval", f"/approvals/{approval['id']}")
        assert gateway.post(path, {"approved": True}).status == 200
    until_idle(gateway, phases)
    for phase in phases:
        log = events_of(gateway.database, phase)
        ends = [each.wire_name for each in log if isinstance(each, RUN_ENDS)]
        assert ends == ENDS[phase], phase
        unknown = [each for each in log if isinstance(each, e.ToolCompleted)]
        if phase == "tool":
            assert [each.outcome for each in unknown] == ["outcome_unknown"]
    gateway.check(seen)


def stop_in(place: Place, gateway: FaultyGateway, phases: list[str]) -> None:
    """Stop the gateway while sessions are in these phases, and have another one carry on."""
    seen = Seen()
    with contextlib.ExitStack() as readers:
        following = {
            phase: readers.enter_context(Following([gateway], phase, seen.reader(phase)))
            for phase in phases
        }
        for phase in phases:
            until_in(gateway, phase, seen, following[phase])
        gateway.terminate()
        check_released(place)
        check(gateway.database, seen, settled=False)
        carry_on(gateway, phases, seen)
        for phase in phases:
            following[phase].until_at(head_of(gateway, phase))
    gateway.check(seen)


def test_sigterm_in_any_phase_is_an_orderly_end(place: Place, started: Started) -> None:
    gateway = started(place.gateway(grace_s=GRACE_S, workers=workers_of(place), **TOOLS))
    stop_in(place, gateway, list(PROMPTS))


@pytest.mark.faults
@pytest.mark.parametrize("phase", PROMPTS)
def test_sigterm_in_each_phase_is_an_orderly_end(
    place: Place, started: Started, worker_class: str, phase: str
) -> None:
    settings = TOOLS | {"workers": workers_of(place), "worker_class": worker_class}
    gateway = started(place.gateway(grace_s=GRACE_S, **settings))
    stop_in(place, gateway, [phase])


@pytest.mark.faults
def test_a_worker_that_gets_sigterm_in_any_phase_leaves_its_work_to_the_next(
    place: Place, started: Started, worker_class: str
) -> None:
    """The master starts another worker, which carries on."""
    gateway = started(place.gateway(grace_s=GRACE_S, worker_class=worker_class, **TOOLS))
    seen = Seen()
    for phase in PROMPTS:
        with Following([gateway], phase, seen.reader(phase)) as reader:
            until_in(gateway, phase, seen, reader)
    worker = gateway.worker
    os.kill(worker, signal.SIGTERM)
    until(lambda: not is_alive(worker), "the worker ends")
    until(lambda: ready(gateway), "another worker is ready")
    phases = [phase for phase in PROMPTS if phase != "approval"]
    until_idle(gateway, phases)
    assert gateway.snapshot("approval")["approvals"]
    gateway.check(seen, settled=False)


def ready(gateway: FaultyGateway) -> bool:
    with contextlib.suppress(OSError):
        return bool(gateway.get("/health").body["ready"])
    return False
