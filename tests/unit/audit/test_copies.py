"""Which events go together; by their seqs, from 1 on."""

from actors.audit.erasing.copies import Copies, Part
from actors.session import events as e
from actors.session.messages import AssistantMessage, Text, ToolCall, UserMessage


def user(text: str, at: int) -> e.MessageCompleted:
    return e.MessageCompleted(UserMessage((Text(text),), at))


def answer(at: int, *blocks: Text | ToolCall) -> e.MessageCompleted:
    return e.MessageCompleted(AssistantMessage(blocks, at))


def part(first: int, last: int, *events: e.Event) -> Part:
    copies = Copies()
    for seq, event in enumerate(events, start=1):
        copies.follow(seq, event)
    return copies.part((first, last))


RUN = (
    e.SessionCreated("s", 1),  # 1
    e.PromptQueued("p1", "hi", "chat", 2),  # 2
    e.RunStarted("p1", 2),  # 3
    e.TurnStarted(1, 2),  # 4
    user("hi", 2),  # 5
    e.MessageStarted("assistant", 3),  # 6
    e.ToolInputDelta(0, "c", "ls", "{}"),  # 7
    answer(4, ToolCall("c", "ls", {})),  # 8
    e.ToolStarted("c", "ls", {}, 5),  # 9
    e.ToolProgressed("c", "ls", "a", 5),  # 10
    e.ToolCompleted("c", "ls", "ok", (), 6),  # 11
    e.SteeringReceived("s1", "more", 6),  # 12
    e.SteeringDelivered("s1", 7),  # 13
    user("more", 7),  # 14
    e.MessageStarted("assistant", 8),  # 15
    e.TextDelta(0, "done"),  # 16
    answer(9, Text("done")),  # 17
    e.RunCompleted("p1", 9),  # 18
)


def test_a_prompt_goes_with_its_message_and_what_was_steered_with_its_own() -> None:
    assert part(2, 2, *RUN).ranges == ((2, 2), (5, 5))
    assert part(14, 14, *RUN).ranges == ((12, 12), (14, 14))


def test_an_answer_goes_with_its_deltas_and_its_calls_with_their_results() -> None:
    for seq in range(7, 12):
        assert part(seq, seq, *RUN).ranges == ((7, 11),)
    assert part(16, 16, *RUN).ranges == ((16, 17),)


def test_an_event_that_nothing_repeats_goes_alone() -> None:
    assert part(3, 4, *RUN).ranges == ((3, 4),)


def test_messages_are_told_with_their_runs_so_that_memories_are_found() -> None:
    said = part(5, 8, *RUN).said
    assert [(each.role, each.at, each.prompt_id) for each in said] == [
        ("user", 2, "p1"),
        ("assistant", 4, "p1"),
        ("", 6, "p1"),
    ]


def test_a_summary_goes_when_something_goes_that_it_stands_for() -> None:
    events = (*RUN, e.ContextCompacted("sum", 14, 10), e.ContextCompacted("sum 2", 19, 11))
    assert part(5, 5, *events).ranges == ((2, 2), (5, 5), (19, 20))
    late = part(17, 17, *events)
    assert (late.ranges, late.compacted) == (((16, 17), (20, 20)), True)
    assert not part(3, 3, *RUN).compacted


def test_a_name_goes_only_when_the_newest_one_goes() -> None:
    events = (*RUN, e.SessionRenamed("a", 10), e.SessionRenamed("b", 11))
    assert not part(19, 19, *events).renamed
    assert part(20, 20, *events).renamed
