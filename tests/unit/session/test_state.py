import pytest

from actors.session import events as e
from actors.session.codec import SESSION_EVENTS
from actors.session.evolve import _EVOLVE, evolve, fold
from actors.session.messages import AssistantMessage, Text, ToolCall, UserMessage, preview_of
from actors.session.state import ModelRef, SessionState
from persistence.schema import PAGED_TYPES

CREATED = e.SessionCreated("s1", 5)


def test_every_event_has_its_own_wire_name_and_changes_the_state() -> None:
    assert set(_EVOLVE) == {*SESSION_EVENTS, e.Erased}
    assert len({each.wire_name for each in SESSION_EVENTS}) == len(SESSION_EVENTS)
    assert all(each.wire_name for each in SESSION_EVENTS)


def test_the_index_for_paging_names_the_events_that_are_messages() -> None:
    assert set(PAGED_TYPES) == {e.MessageCompleted.wire_name, e.ToolCompleted.wire_name}


def test_creation_begins_a_new_incarnation_where_the_stream_stands() -> None:
    before = fold(SessionState("k"), [CREATED, e.MessageCompleted(UserMessage((Text("a"),), 6))])
    state = evolve(before, e.SessionCreated("s2", 9))
    assert (state.version, state.first_seq, state.session_id) == (3, 3, "s2")
    assert (state.message_count, state.preview, state.created_at) == (0, None, 9)


def test_tool_results_count_as_messages_but_do_not_change_the_preview() -> None:
    state = fold(
        SessionState("k"),
        [
            CREATED,
            e.MessageCompleted(
                AssistantMessage((Text(""), Text("shown"), ToolCall("t", "x", 1)), 6)
            ),
            e.ToolStarted("t", "x", 1, 7),
            e.ToolCompleted("t", "x", "ok", (Text("result"),), 8),
        ],
    )
    assert (state.message_count, state.preview, state.tools) == (2, "shown", ())


def test_deltas_of_one_block_are_one_block_of_the_draft() -> None:
    state = fold(
        SessionState("k"),
        [
            CREATED,
            e.MessageStarted("assistant", 6),
            e.ThinkingDelta(0, "h"),
            e.ThinkingDelta(0, "m"),
            e.TextDelta(1, "a"),
            e.ToolInputDelta(2, "t", "bash", "{"),
            e.ToolInputDelta(2, "t", "bash", "}"),
        ],
    )
    assert [(block.kind, block.text) for block in state.draft] == [
        ("thinking", "hm"),
        ("text", "a"),
        ("tool_input", "{}"),
    ]
    done = evolve(state, e.MessageCompleted(AssistantMessage((), 7)))
    assert (done.draft, done.draft_at) == ((), None)


def test_old_messages_do_not_make_a_session_look_less_active() -> None:
    old = e.MessageCompleted(UserMessage((Text("old"),), 1))
    assert fold(SessionState("k"), [CREATED, old]).last_active_at == 5


def test_a_model_is_remembered_with_its_thinking_level() -> None:
    state = fold(SessionState("k"), [CREATED, e.ModelSelected("p", "m", 6, "high")])
    assert (state.model, state.thinking_level) == (ModelRef("p", "m"), "high")


@pytest.mark.parametrize(
    ("text", "preview"),
    [
        ("short", "short"),
        ("x" * 121, "x" * 120),
        ("😀" * 60, "😀" * 60),
        ("😀" * 61, "😀" * 60),
        ("x" + "😀" * 60, "x" + "😀" * 59),
    ],
)
def test_a_preview_has_120_utf16_units_and_no_half_character(text: str, preview: str) -> None:
    assert preview_of(text) == preview
