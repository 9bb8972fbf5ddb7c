"""What holds for the session core whatever happens."""

from hypothesis import given
from hypothesis import strategies as st

from actors.session import events as e
from actors.session.codec import Codec, decode_state, encode_state
from actors.session.commands import Command, QueuePrompt
from actors.session.decide import decide
from actors.session.evolve import evolve, fold
from actors.session.rejections import Rejection
from actors.session.state import SessionState
from tests.properties.strategies import commands, events

CODEC = Codec()
RUN_ENDS = (e.RunCompleted, e.RunFailed, e.RunAborted, e.RunInterrupted)


def distinct(given_commands: list[Command]) -> list[Command]:
    """Leave out prompts whose id was used before: ids are unique where they are made."""
    used: set[str] = set()
    kept: list[Command] = []
    for command in given_commands:
        if isinstance(command, QueuePrompt):
            if command.prompt_id in used:
                continue
            used.add(command.prompt_id)
        kept.append(command)
    return kept


def run_all(given_commands: list[Command]) -> list[e.Event]:
    state, log = SessionState("k"), []
    for command in distinct(given_commands):
        try:
            new = decide(command, state)
        except Rejection:
            continue
        log.extend(new)
        state = fold(state, new)
    return log


@given(events)
def test_an_event_comes_back_from_its_bytes(event: e.Event) -> None:
    payload = CODEC.encode(event)
    assert CODEC.decode(event.wire_name, event.schema_version, payload) == event


@given(st.lists(events, max_size=20))
def test_any_event_fits_any_state_and_counts_once(history: list[e.Event]) -> None:
    state = fold(SessionState("k"), history)
    assert state.version == len(history)
    assert decode_state(encode_state(state)) == state


@given(st.lists(events, max_size=30), st.data())
def test_a_snapshot_and_the_tail_give_the_full_fold(
    history: list[e.Event], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(history)))
    snapshot = encode_state(fold(SessionState("k"), history[:cut]))
    assert fold(decode_state(snapshot), history[cut:]) == fold(SessionState("k"), history)


@given(st.lists(commands, max_size=40))
def test_every_run_that_starts_gets_exactly_one_end(given_commands: list[Command]) -> None:
    running: str | None = None
    for event in run_all(given_commands):
        if isinstance(event, e.RunStarted):
            assert running is None
            running = event.prompt_id
        elif isinstance(event, RUN_ENDS):
            assert event.prompt_id == running
            running = None


@given(st.lists(commands, max_size=40))
def test_nothing_is_left_open_when_a_run_ends(given_commands: list[Command]) -> None:
    state = SessionState("k")
    for event in run_all(given_commands):
        if isinstance(event, RUN_ENDS):
            assert state.draft_at is None
            assert state.tools == ()
            assert state.pending == ()
            assert state.run is not None
            assert not state.run.turn_open
        state = evolve(state, event)


@given(st.lists(commands, max_size=40))
def test_a_prompt_waits_only_while_another_runs(given_commands: list[Command]) -> None:
    state = SessionState("k")
    for command in distinct(given_commands):
        try:
            state = fold(state, decide(command, state))
        except Rejection:
            continue
        assert state.run is not None or not state.queue


@given(st.lists(commands, max_size=40))
def test_no_prompt_is_lost_or_run_twice(given_commands: list[Command]) -> None:
    waiting: list[str] = []
    for event in run_all(given_commands):
        if isinstance(event, e.PromptQueued):
            waiting.append(event.prompt_id)
        elif isinstance(event, e.RunStarted):
            assert waiting.pop(0) == event.prompt_id
        elif isinstance(event, e.PromptCancelled):
            waiting.remove(event.prompt_id)
