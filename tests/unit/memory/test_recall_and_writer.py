import json

import pytest

from actors.memory.recall import CLOSING, Recalled, recalled
from actors.memory.rules import Remember
from actors.memory.writer import memories_in
from persistence.memories import EpisodeHit, MemoryHit
from persistence.records import EpisodeRow, MemoryRow

DAY = 1_795_327_808_906  # 2026-11-22


def memory(number: int, content: str, kind: str = "preference", key: str = "k") -> MemoryRow:
    return MemoryRow(number, "core", kind, key, content, "manual", True, DAY, DAY)


def said(number: int, text: str) -> EpisodeHit:
    return EpisodeHit(EpisodeRow(number, "k", "s", "user", text, DAY), 1.0)


def test_core_memories_found_ones_and_what_was_said_are_told() -> None:
    core = [memory(1, "Likes tea")]
    hits = [
        MemoryHit(core[0], 9.0),
        MemoryHit(memory(2, "The door code is 4711", "secret"), 8.0),
        said(5, "hello there"),
    ]
    found = recalled(core, hits, core_tokens_max=700)
    assert found.text.splitlines() == [
        "Companion Memory",
        "Core memory:",
        "- [preference] Likes tea",
        "Relevant long-term memory:",
        "- [secret] The door code is 4711",
        "Relevant past conversation snippets:",
        "- (2026-11-22) hello there",
        CLOSING,
    ]
    assert (found.memory_ids, found.episode_ids) == ((1, 2), (5,))


def test_nothing_remembered_is_nothing_told() -> None:
    assert recalled([], [], core_tokens_max=700) == Recalled()


def test_core_memories_stay_within_the_budget_but_there_is_one() -> None:
    core = [memory(number, "x" * 39) for number in range(1, 6)]  # 10 tokens each
    assert recalled(core, [], core_tokens_max=25).memory_ids == (1, 2)
    assert recalled(core, [], core_tokens_max=1).memory_ids == (1,)


def test_secrets_are_told_only_where_they_are_asked_for() -> None:
    core = [memory(1, "4711", "secret"), memory(2, "Likes tea")]
    assert recalled(core, [], core_tokens_max=700).memory_ids == (2,)


def test_what_was_found_is_cut_to_a_snippet() -> None:
    text = recalled([], [said(1, "x" * 300)], core_tokens_max=700).text
    assert f"{'x' * 219}…" in text
    assert "x" * 220 not in text


ENTRY = {"bucket": "core", "kind": "preference", "key": "Drink", "content": "Likes tea"}


def written(answer: str) -> list[Remember]:
    return list(memories_in(answer, at=1, principal="token:a"))


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"memories": [ENTRY]}),
        "```json\n" + json.dumps({"memories": [ENTRY]}, indent=1) + "\n```",
        "Here it is: " + json.dumps({"memories": [ENTRY, ENTRY]}),
        json.dumps({"memories": [{**ENTRY, "kind": "mood"}, {**ENTRY, "content": " "}, 7, ENTRY]}),
    ],
)
def test_an_answer_is_read_however_a_model_wraps_it(answer: str) -> None:
    assert written(answer) == [
        Remember(1, "Likes tea", "core", "preference", "drink", "auto", principal="token:a")
    ]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I would not remember any of this.",
        '{"memories": []}',
        '{"memories": {}}',
        '{"memories": [',
        "[]",
        '{"other": 1}',
        '{"memories": [{"kind": "fact", "content": 7}]}',
        '{"memories": ' + "[" * 10_000 + "]" * 10_000 + "}",
    ],
)
def test_an_answer_that_names_nothing_leaves_nothing(answer: str) -> None:
    assert written(answer) == []


def test_a_key_that_is_missing_is_made_of_the_content() -> None:
    (command,) = written(json.dumps({"memories": [{"kind": "fact", "content": "Tea " * 40}]}))
    assert command.key == "-".join(["tea"] * 20)
