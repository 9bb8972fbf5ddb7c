from collections.abc import Iterator
from typing import Any

import pytest

from actors.asking import decode_command, encode_command
from actors.audit.travel.diffing import Side, happened, parting
from actors.audit.travel.forking import Forked, fork, origin_of
from actors.audit.travel.run_list import find_run, newest_runs, prompt_of
from actors.models.demo import DemoModel
from actors.replay import state_at, stream_of
from actors.runs.conversation import Recent
from actors.session import commands as c
from actors.session import events as e
from actors.session.messages import (
    AssistantMessage,
    Message,
    Text,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
)
from actors.session.record_events import SessionForked
from actors.session.rejections import KeyTaken
from actors.session.state import ModelRef, SessionState
from persistence.records import Append, Erasure, Head
from tests.unit.actors.world import HeldModel, World
from tests.unit.audit.files import UNLISTED
from tests.unit.session.specification import Given

ASKED: dict[str, Any] = {"principal": "tester"}
AT = 1_790_000_000_000
SOURCE = c.ForkSource("from", "its id", 7, "ab" * 32)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def said(text: str, at: int = AT) -> e.MessageCompleted:
    return e.MessageCompleted(UserMessage((Text(text),), at))


def answered(text: str, at: int = AT) -> e.MessageCompleted:
    return e.MessageCompleted(AssistantMessage((Text(text),), at, "demo", "echo"))


def imported(world: World, key: str, *recorded: c.Recorded) -> SessionState:
    command = c.ImportSession(AT, f"id of {key}", "test", "original", recorded)
    world.registry.ask(key, command)
    return world.registry.state(key)


def head_of(world: World, key: str) -> Head:
    head = world.log.head(stream_of(key))
    assert head is not None
    return head


def forked(
    world: World, key: str, into: str, at: int | None = None, model: ModelRef | None = None
) -> Forked:
    head = head_of(world, key)
    return fork(
        world.registry, head, state_at(world.log, head, at), into, model, f"id of {into}", ASKED
    )


def names(world: World, key: str) -> list[str]:
    return [each.type for each in world.log.read(head_of(world, key))]


def told(world: World, key: str, at: int | None = None) -> tuple[list[Message], str]:
    """Return the conversation that a model would be told, and the summary before it."""
    head = head_of(world, key)
    state = state_at(world.log, head, at)
    recent = Recent((), state.version)
    transcript = world.registry._launcher.transcript(head, state, recent, DemoModel())
    return [each.message for each in transcript.conversation], transcript.summary


def test_a_fork_begins_with_where_it_comes_from_and_what_was_said() -> None:
    command = c.ForkSession(
        AT,
        "new id",
        SOURCE,
        (said("one").message, answered("two").message),
        "Name",
        ModelRef("demo", "echo"),
        "high",
        "what came before",
        1,
    )
    assert decode_command(encode_command(command)) == command
    given = Given().when(command)
    given.then(
        e.SessionCreated("new id", AT),
        SessionForked("from", "its id", 7, "ab" * 32, AT, 5),
        e.SessionRenamed("Name", AT),
        e.ModelSelected("demo", "echo", AT, "high"),
        said("one"),
        answered("two"),
        e.ContextCompacted("what came before", 6, AT),
    )
    after = given.and_after()
    assert (after.context_seq, after.message_count, after.idle) == (6, 2, True)
    Given(e.SessionCreated("there", 1)).when(command).then_rejected(KeyTaken, "already")


def test_a_fork_of_a_compacted_session_tells_models_what_its_source_does(world: World) -> None:
    call = ToolCall("call-1", "bash", {"command": "ls"})
    messages = (
        said("old"),
        answered("older"),
        e.ContextCompacted("the old story", 2, AT),
        said("kept"),
        e.MessageCompleted(AssistantMessage((call,), AT, "demo", "echo", "tool_use")),
        e.MessageCompleted(ToolResultMessage("call-1", "bash", (Text("a.txt"),), AT)),
        answered("done"),
    )
    imported(world, "source", *messages)
    for at in (5, 6, 8, 9):
        forked(world, "source", f"fork-{at}", at)
        assert told(world, f"fork-{at}") == told(world, "source", at)
    assert told(world, "fork-9")[1] == "the old story"
    assert world.registry.state("fork-9").message_count == 6


def test_a_fork_in_the_middle_of_an_answer_has_what_had_arrived_and_no_more(world: World) -> None:
    world.settings.demo_delay_ms = 2
    watch = world.prompt("k", "one two three four")
    world.prompt("k", "waits").close()
    watch.until("run.completed")
    middle = next(each.seq for each in watch.seen if each.event.wire_name == "text.delta")
    forked(world, "k", "fork", middle)
    state = world.registry.state("fork")
    assert state.idle
    (_asked, broken), _summary = told(world, "fork")
    assert isinstance(broken, AssistantMessage)
    assert broken.stop_reason == "interrupted"
    assert "one two three four".startswith(broken.content[0].text)  # type: ignore[union-attr]
    assert state.usage == state_at(world.log, head_of(world, "k"), middle).usage


def test_the_same_fork_again_is_the_one_that_is_there_whatever_was_left_undone(
    world: World,
) -> None:
    state = imported(world, "source", said("one"), answered("two"))
    first = forked(world, "source", "fork")
    assert first.made
    assert names(world, "source")[-1] == "session.branched"
    assert forked(world, "source", "fork").made is False  # its place has moved by the note
    assert forked(world, "source", "fork", state.version).made is False
    assert names(world, "source").count("session.branched") == 1
    with pytest.raises(KeyTaken):
        forked(world, "source", "fork", state.version - 1)
    world.prompt("source", "more").until("run.completed")
    with pytest.raises(KeyTaken):
        forked(world, "source", "fork")


def test_a_fork_whose_process_died_half_way_is_noted_in_its_source_once_it_is_repeated(
    world: World,
) -> None:
    state = imported(world, "source", said("one"))
    last = list(world.log.read(head_of(world, "source")))[-1]
    source = c.ForkSource("source", state.session_id, state.version, last.hash.hex())
    world.registry.ask("fork", c.ForkSession(AT, "its id", source, (said("one").message,)))
    again = forked(world, "source", "fork")
    assert (again.made, again.session_id) == (False, "its id")
    assert names(world, "source")[-1] == "session.branched"


def test_what_is_erased_is_not_in_a_fork(world: World) -> None:
    imported(world, "source", said("one"), said("secret"), said("three"))
    head = head_of(world, "source")
    world.log.write([Append(head, (), UNLISTED, erasures=(Erasure(head.row, 4, 4),))])
    forked(world, "source", "fork")
    assert told(world, "fork")[0] == [said("one").message, said("three").message]


def test_ten_thousand_messages_are_forked_in_one_append(world: World) -> None:
    imported(world, "long", *[said(f"message {number}") for number in range(10_000)])
    forked(world, "long", "fork")
    assert world.registry.state("fork").message_count == 10_000
    assert len({each.recorded_at for each in world.log.read(head_of(world, "fork"))}) == 1


def test_two_sessions_part_where_they_say_different_things(world: World) -> None:
    imported(world, "a", said("one"), answered("two"), said("three"), answered("four"))
    imported(world, "b", said("one", 1), answered("two", 2), said("else"))
    parted = parting(world.log, side(world, "a"), side(world, "b"))
    assert (parted.common, parted.mine_after, parted.theirs_after) == (2, 4, 4)
    assert parted.fork is None

    forked(world, "a", "fork", 5, ModelRef("demo", "other"))
    for mine, theirs in (("a", "fork"), ("fork", "a")):
        parted = parting(world.log, side(world, mine), side(world, theirs))
        assert parted.common == 3
        assert parted.fork is not None
        assert {parted.mine_after, parted.theirs_after} == {5, 6}
    state = world.registry.state("fork")
    assert origin_of(world.log, head_of(world, "fork"), state) == parted.fork


def side(world: World, key: str) -> Side:
    return Side(head_of(world, key), world.registry.state(key))


def test_a_diff_counts_what_is_gone_by_a_reset_and_by_an_erasure(world: World) -> None:
    before = imported(world, "k", said("one"), said("two"), said("three"))
    world.registry.ask("k", c.RenameSession(AT, "Name"))
    head = head_of(world, "k")
    after = world.registry.state("k")
    found = happened(world.log, head, before, after)
    assert (found.events, found.gone) == ({"session.renamed": 1}, 0)
    world.registry.ask("k", c.ResetSession(AT, "new id"))
    found = happened(world.log, head_of(world, "k"), before, world.registry.state("k"))
    assert (found.events, found.gone) == ({"session.renamed": 1, "session.reset": 1}, 3)


def test_runs_are_listed_the_newest_first_with_what_became_of_them(world: World) -> None:
    held = HeldModel(DemoModel())
    held.release.set()
    world.registry.models._makers["demo"] = lambda *_: held
    world.prompt("k", "one two").until("run.completed")
    state = world.registry.state("k")
    asked = c.Compaction("summary", state.version, "asked", 10, Usage(output=1_000))
    world.registry.ask("k", c.CompactContext(AT, asked, state.context_seq))  # of no run
    failed = world.prompt("k", "!fail broken")
    failed.until("run.failed")
    held.release.clear()
    running = world.prompt("k", "three")
    running.until("turn.started")
    state = world.registry.state("k")
    head = head_of(world, "k")
    runs, more = newest_runs(world.log, head, state, before=None, limit=2)
    assert [(each.prompt, each.outcome, each.error) for each in runs] == [
        ("three", "running", ""),
        ("!fail broken", "failed", "broken"),
    ]
    assert (runs[0].ended_seq, runs[1].id) == (None, failed.prompt_id)
    (first,), end = newest_runs(world.log, head, state, before=more, limit=2)
    assert (first.prompt, first.outcome, end) == ("one two", "completed", None)
    assert first.model == ModelRef("demo", "echo")
    assert 0 < first.usage.output < 1_000
    held.release.set()
    running.until("run.completed")

    started = find_run(world.log, head, failed.prompt_id)
    assert started is not None
    assert (started.seq, started.type) == (runs[1].started_seq, "run.started")
    prompt = prompt_of(world.log, head, started)
    assert prompt is not None
    assert prompt.text == "!fail broken"
    assert find_run(world.log, head, "none") is None
