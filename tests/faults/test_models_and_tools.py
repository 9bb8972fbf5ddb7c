"""Models that fail in every way there is, and tools that hang, multiply or never stop talking."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.session import events as e
from tests.acceptance.conftest import provider, reach, server
from tests.acceptance.gateway import until
from tests.faults.checker import Seen, check, events_of
from tests.faults.conftest import Started
from tests.faults.world import FaultyGateway, Place, is_alive, prompt, until_idle
from tests.wire.servers import Cut, ModelServer, Raw, Refuse, Reply, Report, Say, Stall

__all__ = ["provider", "server"]

RETRIES_MAX = 2
FAILURES: dict[str, tuple[Reply, bool]] = {
    "stalls": (Stall(), True),
    "stalls in the middle": ([Say(["half"]), Stall()], True),
    "garbage": ([Raw(b"data: no JSON at all\n\n")], False),
    "bytes": ([Raw(b"\xff\xfe\x00")], False),
    "429": (Refuse(429, "slow down"), True),
    "500": (Refuse(500, "broken"), True),
    "401": (Refuse(401, "no such key"), False),
    "an error in the answer": ([Say(["half"]), Report("overloaded_error", "busy")], False),
    "cut": ([Say(["half"]), Cut()], True),
    "no end": ([Say(["half"])], False),
}
"""What a call is answered with, and whether it is certainly made again."""


@pytest.mark.faults
def test_a_model_that_fails_in_any_way_is_asked_a_few_times_and_fails_its_run(
    place: Place,
    started: Started,
    provider: str,
    server: ModelServer,
) -> None:
    gateway = place.gateway(
        model_stall_timeout_s=0.5, model_retries_max=RETRIES_MAX, model_retry_delay_s=0.01
    )
    started.later(gateway)
    gateway.start_with(**reach(provider, server))
    seen = Seen()
    for name, (reply, is_retried) in FAILURES.items():
        fail(gateway, server, seen, name, reply, is_retried=is_retried)
    assert gateway.get("/health").status == 200
    check(gateway.database, seen)


def fail(
    gateway: FaultyGateway,
    server: ModelServer,
    seen: Seen,
    name: str,
    reply: Reply,
    *,
    is_retried: bool,
) -> None:
    """Have a session's model fail each time it is asked; check that its run ends so."""
    session = name.replace(" ", "-")
    server.replies.clear()  # what was not asked for before
    server.reply(*[reply] * (RETRIES_MAX + 1))
    prompt(gateway, seen, session, "hello", "key")
    until_idle(gateway, [session])
    log = events_of(gateway.database, session)
    retries = [each for each in log if isinstance(each, e.TurnRetried)]
    assert len(retries) <= RETRIES_MAX, name
    assert len(retries) == RETRIES_MAX or not is_retried, name
    assert sum(isinstance(each, e.RunFailed) for each in log) == 1, name


RULES = [{"tool": "bash", "action": "allow", "unsandboxed": True}]
TOOL_TIMEOUT_S = 2
COMMANDS = {
    "hangs": "sleep 1000",
    "ignores signals": "trap '' TERM INT HUP; sleep 1000",
    "forks": "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait",
    "leaves": "(setsid sleep 1000 &) ; sleep 1000",
    "prints": "head -c 1000000000 /dev/zero | tr '\\0' x",
    "says nothing": "true",
}


@pytest.mark.faults
def test_tools_that_hang_multiply_or_print_without_end_are_ended_and_the_run_goes_on(
    sqlite_place: Place, started: Started, worker_class: str
) -> None:
    gateway = started(
        sqlite_place.gateway(
            tools="all",
            sandbox="none",
            tool_rules=json.dumps(RULES),
            tool_timeout_s=TOOL_TIMEOUT_S,
            worker_class=worker_class,
        )
    )
    seen = Seen()
    for name, command in COMMANDS.items():
        text = f"!bash {json.dumps({'command': command})}"
        prompt(gateway, seen, name.replace(" ", "-"), text, "key")
    sessions = [name.replace(" ", "-") for name in COMMANDS]
    until_idle(gateway, sessions)
    for session in sessions:
        log = events_of(gateway.database, session)
        (completed,) = [each for each in log if isinstance(each, e.ToolCompleted)]
        assert (completed.outcome == "ok") == (session == "says-nothing"), session
        assert isinstance(log[-1], e.RunCompleted), session
        assert sum(map(size_of, log)) < 2_000_000, session
    until(lambda: not sleeping(gateway), "nothing of the commands is left")
    gateway.check(seen)


def size_of(event: e.Event) -> int:
    return len(repr(event))


def sleeping(gateway: FaultyGateway) -> Sequence[int]:
    """Return the processes below the gateway, but for its workers and what they keep."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            folder = (path / "cwd").readlink()
        except OSError:
            continue
        if command[:2] == [b"sleep", b"1000"] and folder.is_relative_to(gateway.folder):
            found.append(int(path.name))
    return [pid for pid in found if is_alive(pid)]
