"""The checker finds what it is there to find: a log with one thing wrong is named by it."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.replay import stream_of
from actors.session import events as e
from actors.session.codec import encode_state
from actors.session.state import STATE_VERSION, SessionState
from persistence.errors import CorruptLogError
from tests.acceptance.gateway import ExecutedGateway, database_url
from tests.faults.checker import (
    Seen,
    Violation,
    check,
    check_prompts,
    check_runs,
    check_seen,
    check_tools,
)

KEY = "checked"
PROMPT = "One two\n!look {}"
ANOTHER_STATE = encode_state(SessionState(KEY, version=1, name="another"))
WRONG_SNAPSHOT = (
    f"INSERT INTO snapshots SELECT id, 1, {STATE_VERSION}, x'{ANOTHER_STATE.hex()}'"
    f" FROM streams WHERE stream_id = '{stream_of(KEY)}'"
)

STARTED = e.RunStarted("p", 1)
COMPLETED = e.RunCompleted("p", 2)
QUEUED = e.PromptQueued("p", "hi", "http", 1, idempotency_key="k")
TOOL = e.ToolStarted("t", "look", {}, 1)
RESULT = e.ToolCompleted("t", "look", "ok", (), 2)


@pytest.mark.parametrize(
    "log",
    [
        [STARTED, STARTED],
        [STARTED, COMPLETED, COMPLETED],
        [STARTED, COMPLETED, STARTED, COMPLETED],
        [COMPLETED],
        [STARTED],
    ],
)
def test_runs_that_overlap_repeat_or_never_end_are_named(log: Sequence[e.Event]) -> None:
    with pytest.raises(Violation, match=r"^I5: checked: "):
        check_runs(KEY, log, settled=True)
    check_runs(KEY, [STARTED, COMPLETED], settled=True)
    check_runs(KEY, [STARTED], settled=False)


@pytest.mark.parametrize(
    "log", [[TOOL, TOOL], [TOOL, RESULT, TOOL], [RESULT, RESULT], [TOOL, COMPLETED]]
)
def test_tools_that_run_again_or_have_no_result_are_named(log: Sequence[e.Event]) -> None:
    with pytest.raises(Violation, match=r"^I5: checked: "):
        check_tools(KEY, log)
    check_tools(KEY, [TOOL, RESULT, e.TurnEnded(1, "stop", 1), TOOL, RESULT])


@pytest.mark.parametrize(
    ("log", "invariant"),
    [
        ([QUEUED, QUEUED], "I1"),
        ([QUEUED, e.SteeringReceived("s", "hi", 1, idempotency_key="k")], "I4"),
        ([QUEUED], "I5"),
        ([QUEUED, e.PromptCancelled("p", "x", 1), COMPLETED], "I5"),
    ],
)
def test_prompts_that_repeat_or_never_end_are_named(log: Sequence[e.Event], invariant: str) -> None:
    with pytest.raises(Violation, match=f"^{invariant}: checked: "):
        check_prompts(KEY, log, settled=True)
    check_prompts(KEY, [QUEUED, COMPLETED], settled=True)
    check_prompts(KEY, [QUEUED], settled=False)


def test_prompts_that_are_lost_or_came_under_another_key_are_named() -> None:
    for prompt_id, key, invariant in (("other", "", "I1"), ("", "other", "I1"), ("p", "x", "I4")):
        seen = Seen()
        seen.acknowledged(KEY, prompt_id, key)
        with pytest.raises(Violation, match=f"^{invariant}: checked: "):
            check_seen(KEY, [QUEUED], seen)
    seen = Seen()
    seen.unacknowledged(KEY, "k")
    check_seen(KEY, [], seen)
    check_seen(KEY, [QUEUED], seen)
    with pytest.raises(Violation, match="^I4: checked: "):
        check_seen(KEY, [QUEUED, QUEUED], seen)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """A log that a gateway wrote, with what clients saw of it; one reader came back once."""
    folder = tmp_path_factory.mktemp("recorded")
    seen = Seen()
    reader = seen.reader(KEY)
    with ExecutedGateway(folder) as gateway:
        path = f"/sessions/{KEY}"
        answer = gateway.post(f"{path}/enqueue", {"text": PROMPT}, **{"Idempotency-Key": "k"})
        seen.acknowledged(KEY, answer.body["promptId"], "k")
        gateway.until_idle(KEY)
        head = gateway.get(f"{path}/state").body["seq"]
        for end in (head // 2, head):
            with gateway.stream(f"{path}/events?after={reader.last_id or 0}") as stream:
                for frame in stream.frames():
                    reader.take(frame)
                    if frame.id == end:
                        break
        check(database_url(folder), seen, gateways=[gateway.url])
    return folder, seen


def test_a_whole_log_passes(recorded: tuple[Path, Seen]) -> None:
    folder, seen = recorded
    check(database_url(folder), seen)
    lost = Seen()
    lost.acknowledged("nobody", "p")
    with pytest.raises(Violation, match="^I1: nobody: "):
        check(database_url(folder), lost)


def test_frames_that_are_missing_or_other_are_named(recorded: tuple[Path, Seen]) -> None:
    folder, seen = recorded
    frames = seen.readers[0].frames
    other = frames[-1]._replace(raw=frames[-1].raw.replace(b"session", b"Session"))
    for wrong in (frames[:3] + frames[4:], [*frames[:-1], other], [*frames, frames[-1]]):
        saw = Seen()
        saw.reader(KEY).frames = wrong
        with pytest.raises(Violation, match="^I6: checked: "):
            check(database_url(folder), saw)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE events SET epoch = epoch + 1 WHERE seq = 2", "^I3: "),
        ("UPDATE events SET payload = x'7b7d' WHERE seq = 2", "is damaged at seq 2"),
        ("UPDATE streams SET hash = zeroblob(32)", "^I9: "),
        ("DELETE FROM events WHERE seq = 1", "^I2: "),
        (WRONG_SNAPSHOT, "^I7: "),
    ],
)
def test_damage_is_named(
    recorded: tuple[Path, Seen], tmp_path: Path, statement: str, problem: str
) -> None:
    folder, _seen = recorded
    with (
        contextlib.closing(sqlite3.connect(folder / "sessiond.db")) as whole,
        contextlib.closing(sqlite3.connect(tmp_path / "sessiond.db")) as damaged,
    ):
        whole.backup(damaged)
        triggers = damaged.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():  # or they would be in the way
            damaged.execute(f"DROP TRIGGER {name}")
        damaged.execute(statement)
        damaged.commit()
    with pytest.raises((Violation, CorruptLogError), match=problem):
        check(database_url(tmp_path))
