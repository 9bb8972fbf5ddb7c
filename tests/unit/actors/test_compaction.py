"""When and where a conversation is cut, and the summary that takes the place of what is cut off."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.models.base import Finished, ModelError, ModelRequest, Part
from actors.models.demo import DemoModel
from actors.runs.compaction import (
    HALVINGS_MAX,
    INSTRUCTIONS,
    KEPT_SHARE,
    PARTS_MAX,
    SUMMARY_TIMEOUT_S,
    Plan,
    Summary,
    context_tokens,
    needs_compaction,
    plan,
    summarise,
)
from actors.runs.context import Counted, counted, estimated_tokens, is_told, told_tokens
from actors.runs.transcript import Transcript
from actors.session.commands import Compaction
from actors.session.events import TextDelta
from actors.session.messages import (
    AssistantMessage,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    text_of,
)

WINDOW = 1_000
NO_USAGE = Usage()
LONG = "x" * 400  # 100 tokens, and 4 for the message


def user(text: str = "hi") -> UserMessage:
    return UserMessage((Text(text),), 1)


def answer(text: str = "yes", at: int = 2, usage: Usage = NO_USAGE, why: str = "stop") -> Message:
    return AssistantMessage((Text(text),), at, stop_reason=why, usage=usage)


def asking(*call_ids: str) -> AssistantMessage:
    return AssistantMessage(tuple(ToolCall(each, "bash", {}) for each in call_ids), 2)


def result(call_id: str, text: str = "done") -> ToolResultMessage:
    return ToolResultMessage(call_id, "bash", (Text(text),), 3)


def conversation(messages: Sequence[Message]) -> list[Counted]:
    return [counted(seq, message) for seq, message in enumerate(messages, 10)]


def size(messages: Sequence[Message], compacted_at: int = 0) -> int:
    return context_tokens(conversation(messages), compacted_at=compacted_at)


def too_long(messages: Sequence[Message], summary: str = "", compacted_at: int = 0) -> bool:
    return needs_compaction(Transcript(conversation(messages), summary, compacted_at), WINDOW)


def planned(*messages: Message, window: int = WINDOW, summary: str = "") -> Plan | None:
    return plan(conversation(messages), window_tokens=window, summary=summary)


def kept(*messages: Message, window: int = WINDOW, summary: str = "") -> list[Message]:
    made = planned(*messages, window=window, summary=summary)
    assert made is not None
    assert [*made.to_summarise, *made.kept] == list(messages)
    assert made.first_kept_seq == 10 + len(made.to_summarise)
    return list(made.kept)


class Summarising:
    """A model that gives the test's answers, the last one over and over. Implements Model."""

    provider = model_id = "summarising"
    address = ""
    remembers = False

    def __init__(self, *answers: str | Exception, context_tokens: int = 8_000) -> None:
        self.context_tokens = context_tokens
        self.requests: list[ModelRequest] = []
        self.closed = 0
        self._answers = answers

    @contextmanager
    def stream(self, request: ModelRequest) -> Iterator["Summarising"]:
        self.requests.append(request)
        yield self

    def __iter__(self) -> Iterator[Part]:
        said = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(said, Exception):
            raise said
        yield TextDelta(0, said)
        message = AssistantMessage((Thinking("hm"), Text(said)), 0, usage=Usage(10, 1))
        yield Finished(message)

    def close(self) -> None:
        self.closed += 1

    @property
    def prompts(self) -> list[str]:
        return [text_of(each.messages[0].content) for each in self.requests]


def never(_call: Callable[[], object]) -> AbstractContextManager[None]:
    return nullcontext()


def summary_of(
    model: Summarising | DemoModel, messages: Sequence[Message], summary: str = ""
) -> Summary:
    return summarise(model, messages, summary=summary, on_cancel=never)


# How large a context is.


def test_the_size_is_estimated_where_nobody_has_counted() -> None:
    assert size([user(LONG), answer(LONG)]) == 208
    assert size([]) == 0


def test_the_size_is_what_the_provider_counted_and_an_estimate_of_what_follows() -> None:
    reported = answer(LONG, usage=Usage(input=100, output=20, cache_read=1_000, cache_write=3))
    old = answer(usage=Usage(input=9_999))
    messages = [user(LONG), old, user(), reported, user(LONG)]
    assert size(messages) == 1_123 + 104
    broken = answer(LONG, usage=Usage(input=7), why="retried")
    assert size([*messages, broken]) == 1_123 + 104


def test_what_was_counted_before_a_compaction_does_not_count() -> None:
    messages = [answer(LONG, at=5, usage=Usage(input=9_999)), user(LONG)]
    assert size(messages, compacted_at=5) == 9_999 + 104
    assert size(messages, compacted_at=6) == 208
    assert not too_long(messages, compacted_at=6)
    assert too_long(messages, compacted_at=5)


@pytest.mark.parametrize(("tokens", "needed"), [(750, False), (751, True)])
def test_a_quarter_of_the_window_is_left_for_the_answer(tokens: int, needed: bool) -> None:
    reported = answer(usage=Usage(input=tokens))
    assert too_long([user(), reported]) == needed


def test_a_summary_takes_its_part_and_so_does_what_nobody_counted() -> None:
    messages = [user(LONG)] * 7
    assert not too_long(messages)
    assert too_long(messages, LONG)
    reported = answer(usage=Usage(input=10))
    assert too_long([*messages, user(LONG), reported])


# Where it is cut.


def test_the_newest_quarter_is_kept_from_a_users_message_on() -> None:
    turns = [user(LONG), answer(LONG)] * 5
    assert kept(*turns) == turns[-2:]
    assert kept(*turns, window=2_000) == turns[-4:]


def test_a_conversation_that_is_short_or_begins_with_what_is_kept_is_not_cut() -> None:
    assert planned(user(), answer()) is None
    assert planned() is None
    assert planned(user(LONG * 100)) is None
    assert planned(asking("a"), result("a", LONG * 100)) is None


def test_a_run_that_is_too_long_by_itself_is_cut_before_an_answer() -> None:
    run = [user("Do it."), *[each for i in "abcdef" for each in (asking(i), result(i, LONG))]]
    assert kept(*run) == run[-4:]
    assert kept(*run, user("And?")) == [*run[-4:], user("And?")]


def test_results_stay_with_their_call_however_long_they_are() -> None:
    last = [asking("a", "b"), result("a", LONG * 10), result("b", LONG)]
    assert kept(user(LONG), answer(LONG), *last) == last
    late = [asking("a"), user("Wait."), result("a", LONG)]
    assert kept(user(LONG * 2), *late) == late


def test_a_result_without_a_call_holds_nothing_back() -> None:
    assert kept(user(LONG * 3), result("lost"), user("b")) == [user("b")]


def test_what_is_not_told_is_neither_kept_nor_summarised() -> None:
    broken = answer(LONG * 9, why="retried")
    made = planned(user(LONG), answer(LONG), broken, user(LONG), broken, answer(LONG))
    assert made is not None
    assert made.to_summarise == (user(LONG), answer(LONG))
    assert made.kept == (user(LONG), answer(LONG))
    assert made.first_kept_seq == 13


def test_a_long_summary_leaves_less_to_keep() -> None:
    turns = [user(LONG), answer(LONG)] * 5
    assert kept(*turns, summary="s" * 500) == turns[-2:]
    assert kept(*turns, summary="s" * 2_000) == turns[-1:]


MESSAGES = st.lists(
    st.one_of(
        st.builds(user, st.sampled_from(["hi", LONG, LONG * 4])),
        st.builds(answer, st.sampled_from(["", LONG]), why=st.sampled_from(["stop", "retried"])),
        st.lists(st.sampled_from("abc"), min_size=1, unique=True).map(lambda ids: asking(*ids)),
        st.builds(result, st.sampled_from("abc"), st.sampled_from(["", LONG, LONG * 4])),
    ),
    max_size=20,
)


@given(MESSAGES, st.integers(1, 3_000))
def test_wherever_it_is_cut_nothing_is_lost_and_no_result_without_its_call(
    messages: list[Message], window: int
) -> None:
    made = planned(*messages, window=window)
    if made is None:
        return
    assert [*made.to_summarise, *made.kept] == list(filter(is_told, messages))
    assert made.to_summarise
    assert not isinstance(made.kept[0], ToolResultMessage)
    before = {block.id for block in _calls(made.to_summarise)}
    calls: set[str] = set()
    for message in made.kept:
        if isinstance(message, ToolResultMessage) and message.tool_call_id in before:
            assert message.tool_call_id in calls
        calls |= {block.id for block in _calls([message])}
    newest = sum(map(estimated_tokens, made.kept))
    single = [at for at, each in enumerate(made.kept) if not isinstance(each, ToolResultMessage)]
    assert newest <= window * KEPT_SHARE or len(single) <= 1 or len(_calls(made.kept)) > 0


@given(MESSAGES, MESSAGES, st.integers(0, 40))
def test_the_running_total_is_what_a_fresh_count_gives(
    messages: list[Message], more: list[Message], first_kept: int
) -> None:
    transcript = Transcript(conversation(messages))
    transcript.extend(list(enumerate(more, 10 + len(messages))))
    assert transcript.tokens == _fresh_count(transcript)
    transcript.compact(Compaction("s", first_kept, "window", 0, NO_USAGE), at=5)
    assert all(each.seq >= first_kept for each in transcript.conversation)
    assert transcript.tokens == told_tokens(transcript.conversation) == _fresh_count(transcript)
    transcript.extend([(100, user(LONG))])
    assert transcript.tokens == _fresh_count(transcript)


def _fresh_count(transcript: Transcript) -> int:
    return sum(map(estimated_tokens, filter(is_told, transcript.newest_first())))


def _calls(messages: Sequence[Message]) -> list[ToolCall]:
    return [block for each in messages for block in each.content if isinstance(block, ToolCall)]


# What takes its place.


def test_the_model_is_shown_who_said_what_and_asked_for_a_summary() -> None:
    model = Summarising("So far.")
    messages = [
        UserMessage((Image("image/png", "aGk="), Text("Look.\n!fail now")), 1),
        AssistantMessage((Thinking("secret"), Text("I do."), ToolCall("a", "bash", {"x": 1})), 2),
        ToolResultMessage("a", "bash", (Text("no\nsuch file"),), 3, is_error=True),
        answer("broken", why="retried"),
    ]
    assert summary_of(model, messages) == Summary("So far.", Usage(10, 1))
    (request,) = model.requests
    assert (request.system, request.tools) == (INSTRUCTIONS, ())
    assert request.max_output_tokens == 1_000
    assert model.prompts[0].splitlines() == [
        "The conversation:",
        "",
        "User:",
        "  [a picture, image/png]",
        "  Look.",
        "  !fail now",
        "",
        "Assistant:",
        "  I do.",
        "",
        "Assistant called the tool bash:",
        '  {"x":1}',
        "",
        "The tool bash failed:",
        "  no",
        "  such file",
        "",
    ]


def test_the_summary_that_there_is_is_brought_up_to_date() -> None:
    model = Summarising("Both.")
    assert summary_of(model, [user("New.")], "!old\nthings").text == "Both."
    assert (
        "The summary:\n  !old\n  things\n\nThe conversation:\n\nUser:\n  New." in model.prompts[0]
    )


def test_long_results_and_arguments_are_cut() -> None:
    model = Summarising("So far.")
    call = AssistantMessage((ToolCall("a", "write", {"text": "y" * 50_000}),), 2)
    summary_of(model, [user(), call, result("a", "z" * 50_000)])
    assert len(model.prompts[0]) < 3_500


def test_a_conversation_that_does_not_fit_is_summarised_in_parts() -> None:
    model = Summarising("One.", "Two.", "Three.")
    text = "\n".join(f"!line {number}" for number in range(4_000))
    made = summary_of(model, [user(text), user("y" * 20_000)], "Zero.")
    count = len(model.requests)
    assert count >= 4
    assert made == Summary("Three.", Usage(10 * count, count))
    for before, prompt in zip(["Zero.", "One.", "Two."], model.prompts, strict=False):
        assert f"The summary:\n  {before}\n" in prompt
    shown = "".join(each.split("The conversation:\n\n", 1)[1] for each in model.prompts)
    assert shown.count("!line") == 4_000
    assert shown.count("y") >= 20_000
    for prompt in model.prompts:
        assert len(prompt) < 8_000 * 4 * 0.7
        assert not [line for line in prompt.splitlines() if line.startswith(("!", "y"))]


def test_there_is_an_end_to_the_parts() -> None:
    model = Summarising("On.", context_tokens=500)
    summary_of(model, [user("x" * 1_000_000)])
    assert len(model.requests) == PARTS_MAX


def test_parts_get_smaller_when_the_model_says_that_they_are_too_long() -> None:
    too_long = ModelError("prompt is too long", overflow=True)
    model = Summarising(too_long, too_long, "So far.")
    assert summary_of(model, [user("x" * 18_000)]).text == "So far."
    sizes = [len(each) for each in model.prompts]
    assert sizes[0] > 18_000
    assert sizes[2] < 6_000
    assert len(sizes) >= 5
    model = Summarising(too_long)
    with pytest.raises(ModelError, match="too long"):
        summary_of(model, [user("x" * 18_000)])
    assert len(model.requests) == 1 + HALVINGS_MAX


def test_a_summary_that_is_too_long_for_this_model_is_summarised_itself() -> None:
    model = Summarising("Short.", context_tokens=1_000)
    summary_of(model, [user("New.")], "old " * 2_000)
    assert "".join(model.prompts).count("old ") >= 1_990
    assert max(map(len, model.prompts)) < 4_000


def test_an_answer_is_cut_where_the_server_does_not_keep_to_its_limit() -> None:
    assert len(summary_of(Summarising("x" * 100_000), [user()]).text) == 8_000


def test_an_empty_summary_is_an_error() -> None:
    with pytest.raises(ModelError, match="empty"):
        summary_of(Summarising(" \n"), [user()])


def test_a_model_that_fails_is_not_asked_again() -> None:
    model = Summarising(ModelError("down", retryable=True))
    with pytest.raises(ModelError, match="down"):
        summary_of(model, [user()])
    assert len(model.requests) == 1


def test_nothing_to_summarise_leaves_the_summary_as_it_is() -> None:
    model = Summarising("x")
    assert summary_of(model, [], "old") == Summary("old", Usage())
    assert not model.requests


def test_a_model_that_takes_too_long_is_given_up() -> None:
    times = iter([0.0, SUMMARY_TIMEOUT_S + 1])
    with pytest.raises(ModelError, match="more than 300 s"):
        summarise(
            Summarising("x"),
            [user()],
            summary="",
            on_cancel=never,
            clock_s=lambda: next(times),
        )


def test_whoever_does_not_want_it_any_more_can_close_the_call() -> None:
    close: list[Callable[[], object]] = []
    begun = threading.Event()

    @contextmanager
    def on_cancel(call: Callable[[], object]) -> Iterator[None]:
        close.append(call)
        begun.set()
        yield

    errors: list[ModelError] = []

    def run() -> None:
        try:
            model = DemoModel(delay_ms=60_000)
            summarise(model, [user("a b c")], summary="", on_cancel=on_cancel)
        except ModelError as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(10)
    close[0]()
    thread.join(10)
    assert not thread.is_alive()
    assert str(errors[0]) == "The call was closed."


def test_the_demo_can_summarise_and_follows_no_command_that_was_said() -> None:
    model = DemoModel(context_tokens=1_000)
    messages = [user("!fail now\n!bash {}\n" + "word " * 400)]
    made = summary_of(model, messages)
    assert 0 < len(made.text.split()) <= 125
    assert made.usage.input > 400
