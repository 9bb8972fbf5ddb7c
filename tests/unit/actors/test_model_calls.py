"""Model calls that fail, are made again, or were told too much."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from actors.models.base import Finished, ModelError, ModelRequest, Part
from actors.runs.compaction import INSTRUCTIONS
from actors.runs.context import counted
from actors.runs.transcript import Transcript
from actors.session import commands as c
from actors.session import events as e
from actors.session.messages import (
    AssistantMessage,
    Text,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    text_of,
)
from tests.unit.actors.world import World

CUT = ModelError("cut off", retryable=True)
TOO_LONG = ModelError("too long", overflow=True)


class Scripted:
    """A model that gives one list of parts a call; an error among them is raised.

    Asked for a summary, however many parts it takes, it gives ``summary``. Implements Model and
    ModelStream.
    """

    provider = "scripted"
    model_id = "scripted"
    address = ""
    remembers = False

    def __init__(
        self,
        *calls: Sequence[Part | ModelError],
        summary: Part | ModelError | None = None,
        context_tokens: int = 1_000,
    ) -> None:
        self.calls = list(calls)
        self.summary = summary
        self.requests: list[ModelRequest] = []
        self.context_tokens = context_tokens

    @contextmanager
    def stream(self, request: ModelRequest) -> Iterator["Scripted"]:
        self.requests.append(request)
        yield self

    def __iter__(self) -> Iterator[Part]:
        summing = self.summary is not None and self.requests[-1].system == INSTRUCTIONS
        for part in [self.summary] if summing else self.calls.pop(0):
            if isinstance(part, ModelError):
                raise part
            yield part

    def close(self) -> None:
        """There is nothing to close."""


def answer(text: str, **fields: object) -> Finished:
    return Finished(AssistantMessage((Text(text),), 0, "scripted", "scripted", **fields))  # type: ignore[arg-type]


def use(world: World, model: Scripted) -> Scripted:
    world.registry.models._makers["demo"] = lambda *_: model
    return model


def test_a_call_that_breaks_off_is_made_again_and_each_attempt_is_in_the_log(
    world: World,
) -> None:
    model = use(world, Scripted([e.TextDelta(0, "par"), CUT], [CUT], [answer("whole")]))
    watch = world.prompt("k", "hello")
    completed = watch.until("run.completed")
    retried = [each.event for each in watch.seen if isinstance(each.event, e.TurnRetried)]
    assert [(each.attempt, each.error, each.delay_ms) for each in retried] == [
        (2, "cut off", 10),
        (3, "cut off", 20),
    ]
    kept = [each.event.message for each in watch.seen if isinstance(each.event, e.MessageCompleted)]
    assert [text_of(each.content) for each in kept] == ["hello", "par", "whole"]
    assert completed.state.preview == "whole"
    assert [text_of(each.content) for each in model.requests[-1].messages] == ["hello"]


def test_a_call_that_fails_too_often_fails_the_run_with_what_had_arrived(world: World) -> None:
    use(world, Scripted([CUT], [CUT], [e.TextDelta(0, "par"), CUT]))
    watch = world.prompt("k", "hello")
    failed = watch.until("run.failed")
    assert failed.event.error == "cut off"  # type: ignore[attr-defined]
    assert failed.state.preview == "par"
    assert watch.names.count("turn.retried") == world.settings.model_retries_max


def test_a_provider_that_wants_too_long_a_pause_is_not_asked_again(world: World) -> None:
    use(world, Scripted([ModelError("busy", retryable=True, retry_after_s=3_600)]))
    watch = world.prompt("k", "hello")
    watch.until("run.failed")
    assert "turn.retried" not in watch.names


def test_an_abort_ends_the_pause_before_the_next_attempt(world: World) -> None:
    use(world, Scripted([ModelError("busy", retryable=True, retry_after_s=30)]))
    watch = world.prompt("k", "hello")
    watch.until("turn.retried")
    world.registry.ask("k", c.AbortRun(1))
    watch.until("run.aborted")


def test_an_error_that_will_not_pass_is_not_tried_again(world: World) -> None:
    use(world, Scripted([ModelError("no such model")]))
    watch = world.prompt("k", "hello")
    watch.until("run.failed")
    assert "turn.retried" not in watch.names


def test_usage_and_cost_are_counted_for_turn_run_and_session(world: World) -> None:
    use(world, Scripted(*[[answer("x", usage=Usage(10, 2))]] * 2))
    world.prompt("k", "hello").until("run.completed")
    completed = world.prompt("k", "hello").until("run.completed")
    assert completed.state.usage.input == 20
    assert completed.state.run_usage.input == 10
    assert completed.state.turn_usage.output == 2


LONG = "word " * 400


def test_a_long_conversation_is_summarised_before_the_window_is_full(world: World) -> None:
    model = use(
        world,
        Scripted(
            [answer("one")],
            [answer("two")],
            summary=answer("the summary"),
            context_tokens=600,
        ),
    )
    world.prompt("k", LONG).until("run.completed")
    watch = world.prompt("k", "and now?")
    completed = watch.until("run.completed")
    compacted = next(each for each in watch.seen if isinstance(each.event, e.ContextCompacted))
    assert compacted.event.reason == "window"  # type: ignore[attr-defined]
    assert completed.state.summary == "the summary"
    told = [text_of(each.content) for each in model.requests[-1].messages]
    assert "the summary" in told[0]
    assert told[-1] == "and now?"
    assert completed.state.message_count == 4


def test_where_no_summary_can_be_had_the_oldest_is_left_out(world: World) -> None:
    model = use(
        world,
        Scripted([answer("one")], [answer("two")], summary=ModelError("no"), context_tokens=600),
    )
    world.prompt("k", LONG).until("run.completed")
    watch = world.prompt("k", "and now?")
    watch.until("run.completed")
    assert "context.compacted" not in watch.names
    assert text_of(model.requests[-1].messages[-1].content) == "and now?"


def test_a_model_that_was_told_too_much_is_told_a_summary(world: World) -> None:
    use(
        world,
        Scripted([answer("one")], [TOO_LONG], [answer("two")], summary=answer("the summary")),
    )
    world.prompt("k", LONG).until("run.completed")
    watch = world.prompt("k", "and now?")
    watch.until("run.completed")
    names = [name for name in watch.names if name in ("turn.retried", "context.compacted")]
    assert names == ["turn.retried", "context.compacted"]


def test_a_model_that_was_told_too_much_again_fails_the_run(world: World) -> None:
    use(
        world,
        Scripted([answer("one")], [TOO_LONG], [TOO_LONG], summary=answer("the summary")),
    )
    world.prompt("k", LONG).until("run.completed")
    watch = world.prompt("k", "and now?")
    watch.until("run.failed")
    assert watch.names.count("turn.retried") == 1


def test_a_session_is_compacted_when_somebody_asks(world: World) -> None:
    use(world, Scripted([answer("one")], [answer("two")], summary=answer("the summary")))
    world.prompt("k", LONG).until("run.completed")
    world.prompt("k", "more").until("run.completed")
    made = world.registry.compact("k", "tester")
    assert made is not None
    assert world.registry.state("k").summary == "the summary"
    assert world.registry.state("k").context_seq == made.first_kept_seq


def test_there_is_nothing_to_compact_in_a_short_session(world: World) -> None:
    use(world, Scripted([answer("one")]))
    world.prompt("k", "hi").until("run.completed")
    assert world.registry.compact("k", "tester") is None


def test_calls_without_results_are_found_until_a_user_speaks_again() -> None:
    first, second = ToolCall("t1", "x", {}), ToolCall("t2", "x", {})
    asked = counted(1, UserMessage((Text("go"),), 1))
    called = counted(2, AssistantMessage((first, second), 2))
    done = counted(3, ToolResultMessage("t1", "x", (Text("ok"),), 3))
    assert Transcript([asked, called, done]).unanswered() == [second]
    assert Transcript([asked, called, done, counted(4, asked.message)]).unanswered() == []
    assert Transcript([asked]).unanswered() == []
