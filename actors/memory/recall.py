"""What a model is told of memory before it answers. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from actors.memory.rules import SECRET
from persistence.memories import EpisodeHit, Hit, MemoryHit
from persistence.records import MemoryRow

CHARACTERS_PER_TOKEN = 4
SNIPPET_CHARACTERS = 220
CLOSING = "What is said in the conversation itself counts before any of this."


class Recalled(Struct, frozen=True):
    """What is told, "" where there is nothing, and of which memories and episodes."""

    text: str = ""
    memory_ids: tuple[int, ...] = ()
    episode_ids: tuple[int, ...] = ()


def recalled(core: Sequence[MemoryRow], hits: Sequence[Hit], *, core_tokens_max: int) -> Recalled:
    """Return what to tell: core memories within the budget, newest first, then what was found."""
    kept = _within(core, core_tokens_max)
    known = {row.id for row in kept}
    found = [hit.row for hit in hits if isinstance(hit, MemoryHit) and hit.row.id not in known]
    said = [hit.row for hit in hits if isinstance(hit, EpisodeHit)]
    sections = (
        ("Core memory:", [f"- [{row.kind}] {row.content}" for row in kept]),
        (
            "Relevant long-term memory:",
            [f"- [{row.kind}] {_snippet(row.content)}" for row in found],
        ),
        (
            "Relevant past conversation snippets:",
            [f"- ({_day(row.at)}) {_snippet(row.text)}" for row in said],
        ),
    )
    lines = [line for title, entries in sections if entries for line in (title, *entries)]
    if not lines:
        return Recalled()
    return Recalled(
        "\n".join(["Companion Memory", *lines, CLOSING]),
        tuple([row.id for row in (*kept, *found)]),
        tuple([row.id for row in said]),
    )


def _within(core: Sequence[MemoryRow], tokens_max: int) -> list[MemoryRow]:
    kept: list[MemoryRow] = []
    left = tokens_max
    for row in core:
        if row.kind == SECRET:
            continue
        left -= -(-len(row.content + row.key) // CHARACTERS_PER_TOKEN)
        if left < 0 and kept:
            break
        kept.append(row)
    return kept


def _snippet(text: str) -> str:
    return text if len(text) <= SNIPPET_CHARACTERS else text[: SNIPPET_CHARACTERS - 1] + "…"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")
