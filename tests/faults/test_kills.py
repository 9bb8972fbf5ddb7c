"""kill -9 at every event of a run, before and after its commit: what is in the log counts."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from actors.session import events as e
from persistence.fail_points import VARIABLE
from tests.acceptance.gateway import until, words
from tests.faults.checker import Seen
from tests.faults.conftest import Started
from tests.faults.world import (
    CUT,
    FaultyGateway,
    Following,
    Place,
    head_of,
    path_of,
    prompt,
    until_idle,
)

MARK = "ran.txt"
RULES = [
    {"tool": "bash", "action": "allow", "unsandboxed": True},
    {"tool": "write", "action": "ask"},
]
SETTINGS: dict[str, object] = {
    "tools": "all",
    "sandbox": "none",  # the tool must leave a mark that the test can find
    "tool_rules": json.dumps(RULES),
    "demo_delay_ms": 2,
}
BASH = f"echo ran >> {MARK}; echo one; sleep 0.3; echo two"
PROMPT = f"One two\n!think hmm, well\n!bash {json.dumps({'command': BASH})}"
WRITE = '!write {"path": "a.txt", "content": "x"}'
LONG = words(2_000)
WINDOW = words(1_500)
"""A few of these are more than the demo model is told at once."""

MOMENTS = ("before", "after")


class Step(NamedTuple):
    """A request to the session, which may break off; sent once the one before is answered."""

    path: str
    body: Mapping[str, Any] = MappingProxyType({})
    method: str = "POST"


class Boundary(NamedTuple):
    """What leads to an event of this type, besides the prompt."""

    type: str
    text: str = PROMPT
    steps: tuple[Step, ...] = ()
    number: int = 1


RUN = [
    Boundary(each.wire_name)
    for each in (
        e.SessionCreated,
        e.PromptQueued,
        e.RunStarted,
        e.TurnStarted,
        e.MessageStarted,
        e.ThinkingDelta,
        e.TextDelta,
        e.ToolInputDelta,
        e.MessageCompleted,
        e.ToolStarted,
        e.ToolProgressed,
        e.ToolCompleted,
        e.TurnEnded,
        e.RunCompleted,
    )
] + [
    Boundary("turn.started", number=2),
    Boundary("message.completed", number=2),
    Boundary("message.completed", number=3),
]
"""Every type of event of a run with a tool, and where its second turn has them again."""

ABORT = Step("/abort", {"queue": True})
STEER = Step("/steer", {"text": "and also this"})
WAITING = Step("/enqueue", {"text": "waits"})
OTHERS = [
    Boundary("steering.received", LONG, (STEER,)),
    Boundary("steering.delivered", words(200), (STEER,)),
    Boundary("run.aborted", LONG, (ABORT,)),
    Boundary("prompt.cancelled", LONG, (WAITING, ABORT)),
    Boundary("session.settled", LONG, (ABORT,)),
    Boundary("run.failed", "!fail broken"),
    Boundary("session.renamed", "hi", (Step("", {"name": "other"}, "PATCH"),)),
    Boundary("session.reloaded", "hi", (Step("/reload"),)),
    Boundary("session.reset", LONG, (Step("/reset"),)),
    Boundary("session.deleted", LONG, (Step("", method="DELETE"),)),
    Boundary("model.selected", "hi", (Step("/model", {"provider": "demo", "modelId": "echo"}),)),
    Boundary("context.compacted", WINDOW, (Step("/messages", {"text": WINDOW}),) * 6),
    Boundary("approval.requested", WRITE),
    Boundary("approval.resolved", WRITE, (ABORT,)),
]


def die(gateway: FaultyGateway, boundary: Boundary, session: str, seen: Seen) -> None:
    """Have the worker die at the boundary, while a client prompts the session."""
    worker = gateway.worker
    seen.unacknowledged(session, session)
    with contextlib.suppress(*CUT):
        path, body = path_of(session, "/enqueue"), {"text": boundary.text}
        answer = gateway.post(path, body, **{"Idempotency-Key": session})
        assert answer.status == 202, answer
        seen.acknowledged(session, answer.body["promptId"], session)
        for step in boundary.steps:
            content = json.dumps(dict(step.body)).encode() if step.body else b""
            answer = gateway.request(step.method, path_of(session, step.path), content)
            assert answer.status < 300, (step, answer)
    gateway.until_dead(worker)


def settle(gateway: FaultyGateway, boundary: Boundary, session: str, seen: Seen) -> None:
    """Repeat the prompt after a death, let everything end, and check it."""
    first = prompt(gateway, seen, session, boundary.text, session)
    assert first.status == 202, first
    second = prompt(gateway, seen, session, boundary.text, session)
    assert second.body["promptId"] == first.body["promptId"]
    approve(gateway, session)
    until_idle(gateway, [session])
    if boundary.text == PROMPT:
        assert marks(gateway, session) <= 1, f"{boundary}: a tool ran again"
    gateway.check(seen)


def approve(gateway: FaultyGateway, session: str) -> None:
    """Approve what the session asks for, until it asks for nothing any more."""

    def done() -> bool:
        snapshot = gateway.snapshot(session)
        for each in snapshot.get("approvals", ()):
            gateway.post(path_of(session, f"/approvals/{each['id']}"), {"approved": True})
        return not snapshot or not (snapshot["processing"] or snapshot["queueDepth"])

    until(done, f"{session} needs no approval any more")


def marks(gateway: FaultyGateway, session: str) -> int:
    """Return how often the tool has run in the session's workspace."""
    session_id = gateway.snapshot(session)["sessionId"]
    mark = gateway.folder / "data" / "workspaces" / session_id / MARK
    return mark.read_text().count("ran") if mark.exists() else 0


def die_at_each(
    gateway: FaultyGateway, deaths: Sequence[tuple[str, Boundary]], *, thrifty: bool = False
) -> None:
    """Die at each boundary in turn, in a session of its own that somebody follows.

    The ``thrifty`` way settles a session in the process that is to die in the next one: only where
    that has no event of the next boundary's type.
    """
    seen = Seen()
    with contextlib.ExitStack() as readers:
        unsettled: list[tuple[Boundary, str]] = []
        for number, (moment, boundary) in enumerate(deaths):
            session = f"k:{number}"
            reader = Following([gateway], session, seen.reader(session))
            readers.enter_context(reader)
            gateway.start_with(**{VARIABLE: f"{moment} {boundary.type} {boundary.number}"})
            for each in unsettled:
                settle(gateway, *each, seen)
            die(gateway, boundary, session, seen)
            unsettled = [(boundary, session)]
            if thrifty and number < len(deaths) - 1:
                continue
            gateway.start()
            settle(gateway, boundary, session, seen)
            unsettled = []
            if gateway.snapshot(session):  # a deleted one has no more to read
                reader.until_at(head_of(gateway, session))
            if number < len(deaths) - 1:
                gateway.kill()
    gateway.check(seen)


SHORT = {
    "sqlite": [("after", Boundary("tool.started")), ("after", Boundary("prompt.queued"))],
    "postgres": [("before", Boundary("tool.completed")), ("before", Boundary("prompt.queued"))],
}
ON_CRASH = {"sqlite": "interrupt", "postgres": "continue"}


def test_a_worker_may_die_at_any_event(place: Place, started: Started) -> None:
    gateway = started.later(place.gateway(on_crash=ON_CRASH[place.name], **SETTINGS))
    die_at_each(gateway, SHORT[place.name], thrifty=True)


@pytest.mark.faults
@pytest.mark.parametrize("on_crash", ["interrupt", "continue"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_may_die_at_every_event_of_a_run(
    place: Place, started: Started, moment: str, on_crash: str
) -> None:
    gateway = started(place.gateway(on_crash=on_crash, **SETTINGS))
    gateway.kill()  # the primary session is there, and no later start makes one
    die_at_each(gateway, [(moment, boundary) for boundary in RUN])


@pytest.mark.faults
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_may_die_at_whatever_else_happens_to_a_session(
    place: Place, started: Started, moment: str
) -> None:
    gateway = started(place.gateway(**SETTINGS))
    gateway.kill()
    die_at_each(gateway, [(moment, boundary) for boundary in OTHERS])


@pytest.mark.faults
@pytest.mark.parametrize(
    ("on_crash", "type_of_end"), [("interrupt", "run.interrupted"), ("continue", "run.continued")]
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_may_die_while_it_carries_on_after_another_death(
    place: Place, started: Started, moment: str, on_crash: str, type_of_end: str
) -> None:
    gateway = started(place.gateway(on_crash=on_crash, **SETTINGS))
    seen = Seen()
    prompt(gateway, seen, "k", LONG, "k")
    gateway.until_answering("k")
    gateway.kill()
    with contextlib.suppress(AssertionError):  # it may die before it is ready
        gateway.start_with(**{VARIABLE: f"{moment} {type_of_end}"})
        gateway.until_dead(gateway.worker)
    gateway.kill()
    gateway.start()
    settle(gateway, Boundary("", LONG), "k", seen)


def test_the_boundaries_are_all_types_that_a_session_can_have() -> None:
    """What is not there comes from elsewhere, or only after another fault."""
    elsewhere = {
        "session.imported",  # by sessiond import-pi, while no gateway runs
        "turn.retried",  # by a model that fails: test_models.py
        "run.interrupted",
        "run.continued",
    }
    named = {each.type for each in (*RUN, *OTHERS)}
    assert named | elsewhere == {each.wire_name for each in e.EVENT_TYPES}
    assert not named & elsewhere
