"""Nothing leaves a prompt pending, and nothing is kept that could not be read again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from actors.models.base import Finished, Model, ModelError, ModelRequest, Part
from actors.runs.checks import ARGUMENTS_DEPTH_MAX, check_message
from actors.runs.conversation import EndedRun
from actors.session import commands as c
from actors.session import events as e
from actors.session.messages import AssistantMessage, Message, Text, Thinking, ToolCall, Usage
from actors.session.state import Run
from tests.unit.actors.world import NoMemory, Watch, World

UNKEEPABLE = "can't be kept"


def message(*content: Any, **fields: Any) -> AssistantMessage:
    return AssistantMessage(content, 0, **fields)


def nested(depth: int) -> Any:
    value: Any = 7
    for number in range(depth):
        value = [value, "x"] if number % 2 else {"a": value, "b": 1}
    return value


class Speaking:
    """A model that says what the test gives it. Implements Model and ModelStream."""

    provider = "speaking"
    model_id = "speaking"
    context_tokens = 1_000
    address = ""
    remembers = False

    def __init__(self, *parts: Part) -> None:
        self.parts = parts

    @contextmanager
    def stream(self, request: ModelRequest) -> Iterator["Speaking"]:
        yield self

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def close(self) -> None:
        """There is nothing to close."""


def say(world: World, *parts: Part) -> Speaking:
    speaking = Speaking(*parts)
    world.registry.models._makers["demo"] = lambda *_: speaking
    return speaking


def failure(watch: Watch) -> str:
    failed = watch.until("run.failed").event
    assert isinstance(failed, e.RunFailed)
    return failed.error


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (message(ToolCall(7, "look_up", {})), UNKEEPABLE),  # type: ignore[arg-type]
        (message(ToolCall("c", ["look_up"], {})), UNKEEPABLE),  # type: ignore[arg-type]
        (message(ToolCall("c", "look\ud800", {})), UNKEEPABLE),
        (message(ToolCall("c", "look_up", {"a": object()})), UNKEEPABLE),
        (message(Text(7)), UNKEEPABLE),  # type: ignore[arg-type]
        (message(Thinking("hm", "\udfff")), UNKEEPABLE),
        (message("no block"), UNKEEPABLE),
        (message(usage=Usage(1.5)), UNKEEPABLE),  # type: ignore[arg-type]
        (message(usage=Usage(output="many")), UNKEEPABLE),  # type: ignore[arg-type]
        (message(stop_reason=7), UNKEEPABLE),
        (message(ToolCall("c", "look_up", nested(ARGUMENTS_DEPTH_MAX))), None),
        (message(ToolCall("c", "look_up", nested(ARGUMENTS_DEPTH_MAX + 1))), "more than 100 deep"),
        (message(ToolCall("c", "look_up", nested(100_000))), "more than 100 deep"),
        (message(Text("x"), Thinking("y"), ToolCall("c", "z", [{}, [], None, 1.5, "a"])), None),
        (message(), None),
    ],
)
def test_a_message_is_kept_only_if_it_can_be_read_again(
    said: AssistantMessage, why: str | None
) -> None:
    if why is None:
        check_message(said)
    else:
        with pytest.raises(ModelError, match=why):
            check_message(said)


def test_an_answer_that_could_not_be_read_again_fails_its_run(world: World) -> None:
    say(world, e.TextDelta(0, "Hi"), Finished(message(Text("Hi"), usage=Usage(1.5))))  # type: ignore[arg-type]
    watch = world.prompt("k", "hello")
    assert UNKEEPABLE in failure(watch)
    assert watch.names[-4:] == ["message.completed", "turn.ended", "run.failed", "session.settled"]


@pytest.mark.parametrize(
    "delta", [e.TextDelta(0, "\ud800"), e.ToolInputDelta(0, "\ud800", "x", "")]
)
def test_a_delta_that_can_not_be_written_fails_its_run_and_the_next_one_goes_on(
    world: World, delta: Part
) -> None:
    speaking = say(world, delta, Finished(message(Text("Hi"))))
    first = world.prompt("k", "hello")
    assert failure(first) == "Internal error: UnicodeEncodeError"
    speaking.parts = speaking.parts[1:]
    world.prompt("k", "again").until("run.completed")
    assert first.names.count("text.delta") == 0


class FailingMemory(NoMemory):
    """Raises when a run begins or ends. Implements RunMemory."""

    def __init__(self, *, begin: bool = False, end: bool = False) -> None:
        self.begin = begin
        self.end = end

    def recaller(self, key: str, run: Run) -> Callable[[Model, Sequence[Message]], str]:
        if self.begin:
            raise ZeroDivisionError
        return super().recaller(key, run)

    def run_ended(self, ended: EndedRun) -> None:
        if self.end:
            raise ZeroDivisionError


def test_a_run_that_can_not_begin_has_failed(world: World) -> None:
    world.registry._launcher._memory = FailingMemory(begin=True)
    assert failure(world.prompt("k", "hello")) == "Internal error: ZeroDivisionError"
    world.registry._launcher._memory = NoMemory()
    world.prompt("k", "again").until("run.completed")


def test_a_run_that_waited_for_one_whose_end_goes_wrong_has_failed(world: World) -> None:
    world.settings.demo_delay_ms = 50
    world.registry._launcher._memory = FailingMemory(end=True)
    first = world.prompt("k", " ".join(["word"] * 1_000))
    second = world.prompt("k", "waits")
    world.registry.ask("k", c.AbortRun(1))
    first.until("run.aborted")
    assert failure(second) == "Internal error: ZeroDivisionError"
