import threading
from collections.abc import Sequence

import pytest

from actors.errors import Draining, SessionNotFound, TooManySessions
from actors.models.demo import DemoModel
from actors.replay import replay, state_at, stream_of
from actors.session import commands as c
from actors.session import events as e
from actors.session.codec import encode_state
from actors.session.messages import UserMessage, text_of
from actors.session.rejections import QueueFull
from actors.session.state import STATE_VERSION, SessionState
from actors.session_actor import SNAPSHOT_EVERY_EVENTS
from actors.tail import Tail
from persistence.errors import CorruptLogError, PersistenceError, StoreUnavailableError
from persistence.in_memory import InMemoryEventLog
from persistence.records import Append, Head, StoredEvent, Write
from tests.unit.actors.world import HeldModel, Watch, World, WorldSettings, eventually


def stored_events(world: World, key: str) -> list[StoredEvent]:
    head = world.log.head(stream_of(key))
    assert head is not None
    return list(world.log.read(head))


def replayed(world: World, key: str) -> SessionState:
    head = world.log.head(stream_of(key))
    assert head is not None
    return state_at(world.log, head)


def names(world: World, key: str) -> list[str]:
    head = world.log.head(stream_of(key))
    assert head is not None
    return [stored.type for stored in world.log.read(head)]


def hold(world: World) -> HeldModel:
    """Make the demo model wait for the test."""
    held = HeldModel(DemoModel())
    world.registry.models._makers["demo"] = lambda *_: held
    return held


def test_a_prompt_is_answered_and_everything_about_it_is_in_the_log(world: World) -> None:
    watch = world.prompt("k", "hello there")
    watch.until("run.completed")
    assert names(world, "k") == [
        "session.created",
        "prompt.queued",
        "run.started",
        "turn.started",
        "message.completed",
        "message.started",
        *["text.delta"] * names(world, "k").count("text.delta"),
        "message.completed",
        "turn.ended",
        "run.completed",
    ]


def test_a_reader_sees_what_is_in_the_log_and_nothing_else(world: World) -> None:
    watch = world.prompt("k", "!think hm\nhello\n!tool {}")
    watch.until("run.completed")
    head = world.log.head(stream_of("k"))
    assert head is not None
    logged, _ = replay(world.log, head, SessionState("k"))
    assert [(each.seq, each.event, each.state) for each in watch.seen] == [
        (each.seq, each.event, each.state) for each in logged
    ]


def test_the_live_state_is_the_replayed_state(world: World) -> None:
    world.prompt("k", "one").until("run.completed")
    world.prompt("k", "!fail two").until("run.failed")
    assert encode_state(world.registry.state("k")) == encode_state(replayed(world, "k"))


def test_events_carry_who_asked_and_which_prompt_they_belong_to(world: World) -> None:
    watch = world.prompt("k", "hi")
    watch.until("run.completed")
    stored = stored_events(world, "k")
    assert {each.principal for each in stored} == {"tester"}
    assert {each.correlation_id for each in stored[1:]} == {watch.prompt_id}
    assert {each.causation_seq for each in stored[2:]} == {2}


def test_a_run_is_recorded_as_its_askers_whoever_ends_the_one_before(world: World) -> None:
    held = hold(world)
    world.prompt("k", "first", principal="alice")
    second = world.prompt("k", "second", principal="bob")
    world.registry.ask("k", c.AbortRun(1, principal="carol"))
    held.release.set()
    second.until("run.completed")
    who = [(each.type, each.principal) for each in stored_events(world, "k")]
    assert ("run.aborted", "carol") in who
    started = [principal for kind, principal in who if kind == "run.started"]
    assert started == ["alice", "bob"]
    assert who[-1] == ("run.completed", "bob")


def test_what_the_gateway_does_by_itself_is_recorded_as_its_own(world: World) -> None:
    hold(world)
    world.prompt("k", "first")
    world.registry.upkeep.drain(0)
    who = {each.type: each.principal for each in stored_events(world, "k")}
    assert who["run.interrupted"] == c.GATEWAY


def test_a_hundred_first_requests_make_one_session(world: World) -> None:
    watches = []
    barrier = threading.Barrier(100)

    def ask(number: int) -> None:
        barrier.wait()
        watches.append(world.prompt("k", f"prompt {number}", queue_max=100))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for watch in watches:
        watch.until("run.completed")
    assert names(world, "k").count("session.created") == 1
    assert names(world, "k").count("run.completed") == 100


def test_one_runs_and_the_others_wait_up_to_the_limit(world: World) -> None:
    held = hold(world)
    first = world.prompt("k", "first", queue_max=2)
    waiting = [world.prompt("k", text, queue_max=2) for text in ("second", "third")]
    with pytest.raises(QueueFull):
        world.prompt("k", "fourth", queue_max=2)
    held.release.set()
    for watch in (first, *waiting):
        watch.until("run.completed")
    asked = [text_of(request.messages[-1].content) for request in held.requests]
    assert asked == ["first", "second", "third"]


def test_an_abort_ends_the_run_at_once_and_the_next_one_starts(world: World) -> None:
    held = hold(world)
    first, second = world.prompt("k", "first"), world.prompt("k", "second")
    world.registry.ask("k", c.AbortRun(1))
    first.until("run.aborted")
    held.release.set()
    second.until("run.completed")


def test_whatever_a_model_raises_ends_the_run(world: World) -> None:
    class Broken(DemoModel):
        def stream(self, request: object) -> object:  # type: ignore[override]
            raise ZeroDivisionError

    world.registry.models._makers["demo"] = lambda *_: Broken()
    failed = world.prompt("k", "hi").until("run.failed").event
    assert isinstance(failed, e.RunFailed)
    assert failed.error == "Internal error: ZeroDivisionError"


def test_a_tool_that_does_not_exist_is_an_error_that_the_model_reads(world: World) -> None:
    watch = world.prompt("k", '!bash {"command": "pwd"}')
    watch.until("run.completed")
    assert watch.names.count("turn.started") == 2
    answer = watch.seen[-3].event
    assert isinstance(answer, e.MessageCompleted)
    assert text_of(answer.message.content) == (
        "The tool bash answered: There is no tool named 'bash'."
    )


def test_a_model_that_never_stops_asking_for_tools_is_stopped(world: World) -> None:
    class Asking(HeldModel):
        def stream(self, request):  # type: ignore[no-untyped-def]
            asking = [UserMessage(request.messages[0].content, 0)]
            return DemoModel().stream(type(request)(asking))

    world.registry.models._makers["demo"] = lambda *_: Asking(DemoModel())
    failed = world.prompt("k", "!again {}").until("run.failed").event
    assert isinstance(failed, e.RunFailed)
    assert failed.error == "The run took more than 5 turns."


def test_a_run_that_takes_too_long_fails() -> None:
    world = World(settings=WorldSettings(run_timeout_s=0))
    held = hold(world)
    watch = world.prompt("k", "hi")
    eventually(lambda: bool(held.requests))
    eventually(lambda: world.registry.now_ms() > world.registry.state("k").run.started_at)  # type: ignore[union-attr]
    world.registry.upkeep.end_overdue()
    watch.until("run.failed")
    held.release.set()
    world.close()


def test_an_idle_session_leaves_memory_and_comes_back_as_it_was() -> None:
    world = World(settings=WorldSettings(idle_minutes=0))
    watch = world.prompt("k", "hello")
    watch.until("run.completed")
    before = encode_state(world.registry.state("k"))
    world.registry.upkeep.sweep("web:main")
    assert world.registry.count == 1  # somebody watches
    watch.close()
    world.registry.upkeep.sweep("web:main")
    eventually(lambda: world.registry.count == 0)
    head = world.log.head(stream_of("k"))
    assert head is not None
    snapshot = world.log.snapshot(head, STATE_VERSION)
    assert snapshot is not None
    assert snapshot.state == before == encode_state(world.registry.state("k"))
    world.prompt("k", "again").until("run.completed")
    assert world.registry.state("k").message_count == 4
    world.close()


def test_the_primary_session_stays_loaded() -> None:
    world = World(settings=WorldSettings(idle_minutes=0))
    world.registry.start("web:main", lambda: "id")
    world.registry.upkeep.sweep("web:main")
    world.registry.ask("web:main", c.AbortRun(1))
    assert world.registry.count == 1
    world.close()


def test_snapshots_are_stored_while_a_session_grows(world: World) -> None:
    text = "\n".join(f"!tool{number} {{}}" for number in range(SNAPSHOT_EVERY_EVENTS // 4))
    world.prompt("k", text).until("run.completed")
    head = world.log.head(stream_of("k"))
    assert head is not None
    snapshot = world.log.snapshot(head, STATE_VERSION)
    assert snapshot is not None
    assert snapshot.seq >= SNAPSHOT_EVERY_EVENTS
    assert encode_state(replayed(world, "k")) == encode_state(world.registry.state("k"))


def test_a_new_owner_interrupts_the_run_and_works_off_the_queue() -> None:
    log = InMemoryEventLog()
    dead = World(log, owner="dead")
    held = hold(dead)
    dead.prompt("k", "first")
    dead.prompt("k", "second")
    heir = World(log, owner="heir")
    heir.registry.start("web:main", lambda: "id")
    eventually(lambda: "run.completed" in names(heir, "k"))
    assert [name for name in names(heir, "k") if name.startswith(("run.", "prompt."))] == [
        "prompt.queued",
        "run.started",
        "prompt.queued",
        "run.interrupted",
        "run.started",
        "run.completed",
    ]
    held.release.set()
    eventually(lambda: dead.registry.count == 0)  # its append was fenced off
    assert names(heir, "k")[-1] == "run.completed"
    heir.close()
    dead.close()


def test_a_stopping_process_takes_no_prompts_and_leaves_the_queue() -> None:
    log = InMemoryEventLog()
    world = World(log)
    held = hold(world)
    world.prompt("k", "first")
    world.prompt("k", "second")
    world.registry.upkeep.drain(0)
    with pytest.raises(Draining):
        world.prompt("k", "third")
    assert names(world, "k")[-2:] == ["run.interrupted", "session.settled"]
    assert [prompt.text for prompt in world.registry.state("k").queue] == ["second"]
    held.release.set()
    world.close()


def test_a_session_that_is_not_there_is_not_made_by_looking(world: World) -> None:
    with pytest.raises(SessionNotFound):
        world.registry.state("k")
    with pytest.raises(SessionNotFound):
        world.registry.reader("k")
    assert world.log.head(stream_of("k")) is None


def test_no_more_sessions_are_loaded_than_allowed() -> None:
    world = World(settings=WorldSettings(sessions_loaded_max=1))
    held = hold(world)
    world.prompt("a", "hi")
    with pytest.raises(TooManySessions):
        world.prompt("b", "hi")
    held.release.set()
    eventually(lambda: world.registry.state("a").idle)
    for reader in list(world.registry._sessions._by_key["a"].feed._readers):
        reader.close()
    with pytest.raises(TooManySessions):  # but the idle one makes room
        world.prompt("b", "hi")
    eventually(lambda: world.registry.count == 0)
    world.prompt("b", "hi").until("run.completed")
    world.close()


class FailingLog(InMemoryEventLog):
    """Loses the connection when told to, before anything is written."""

    failing = False

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        if self.failing and any(isinstance(write, Append) for write in batch):
            raise StoreUnavailableError("gone")
        return super().write(batch)


def test_a_prompt_that_could_not_be_stored_is_refused_and_the_session_lives_on() -> None:
    log = FailingLog()
    world = World(log)
    world.prompt("k", "one").until("run.completed")
    log.failing = True
    with pytest.raises(StoreUnavailableError):
        world.prompt("k", "two")
    assert world.registry.state("k").message_count == 2
    log.failing = False
    world.prompt("k", "three").until("run.completed")
    assert names(world, "k").count("prompt.queued") == 2
    world.close()


def test_work_goes_on_by_itself_after_the_store_was_gone() -> None:
    log = FailingLog()
    world = World(log)
    held = hold(world)
    world.prompt("k", "one")
    log.failing = True
    held.release.set()
    eventually(lambda: world.registry.count == 0)
    log.failing = False
    eventually(lambda: "run.interrupted" in names(world, "k"))
    world.close()


def test_a_damaged_session_is_refused_by_name_and_others_go_on(world: World) -> None:
    world.prompt("k", "one").until("run.completed")
    stream = world.log._streams[stream_of("k")]  # type: ignore[attr-defined]
    world.registry._sessions._by_key["k"].ref.stop()
    eventually(lambda: world.registry.count == 0)
    stream.events[4] = stream.events[5]
    with pytest.raises(CorruptLogError, match="session:k is damaged at seq 5"):
        world.prompt("k", "two")
    with pytest.raises(CorruptLogError):
        world.registry.state("k")
    world.prompt("other", "one").until("run.completed")


def test_unfinished_work_waits_for_room_and_then_goes_on() -> None:
    log = InMemoryEventLog()
    dead = World(log, owner="dead")
    held = hold(dead)
    for key in ("a", "b"):
        dead.prompt(key, "first")
    heir = World(log, WorldSettings(sessions_loaded_max=2), owner="heir")
    heir.registry.start("web:main", lambda: "id")
    eventually(lambda: "run.interrupted" in names(heir, "a"))
    assert "run.interrupted" not in names(heir, "b")

    def goes_on() -> bool:
        heir.registry.upkeep.carry_on()
        return "run.interrupted" in names(heir, "b")

    eventually(goes_on)
    held.release.set()
    heir.close()
    dead.close()


def test_what_a_request_leads_to_at_once_names_it_and_what_its_run_does_does_not(
    world: World,
) -> None:
    asked = e.Request("r1", "t1", "192.0.2.1", "curl/8")
    command = c.QueuePrompt(1, "id", "p1", "hello", "test", 8, request=asked)
    _, reader = world.registry.prompt("k", command)
    Watch("p1", Tail(world.log, "k", reader)).until("run.completed")
    head = world.log.head(stream_of("k"))
    assert head is not None
    events, _ = replay(world.log, head, SessionState("k"))
    requests = [(each.event.wire_name, each.event.request) for each in events]
    assert [(name, request) for name, request in requests if request] == [
        ("session.created", asked),
        ("prompt.queued", asked),
        ("run.started", asked),
        ("turn.started", asked),
        ("message.completed", asked),
    ]
    assert len(requests) > 5
