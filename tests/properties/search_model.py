"""The search as the contract words it: one row after the other, without an index."""

import unicodedata
from collections.abc import Iterable

from persistence.memories import EpisodeHit, Hit, MemoryHit
from persistence.records import MemoryRow, Row
from persistence.words import normal, pieces, words

SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


def search(rows: Iterable[Row], query: str, *, limit: int, now_ms: int, secrets: bool) -> list[Hit]:
    asked = words(query[:4_000])[:32]
    found: list[Hit] = []
    for row in rows:
        if isinstance(row, MemoryRow) and (
            not row.active or (row.kind == "secret" and not secrets)
        ):
            continue
        text, at, boost = _described(row)
        score = _score(text, asked, boost, max(0.0, 8 - (now_ms - at) / 86_400_000 / 14))
        if score is not None:
            hit = MemoryHit(row, score) if isinstance(row, MemoryRow) else EpisodeHit(row, score)
            found.append(hit)
    found.sort(key=lambda hit: (hit.score, _described(hit.row)[1], hit.row.id), reverse=True)
    return found[:limit]


def _described(row: Row) -> tuple[str, int, int]:
    if isinstance(row, MemoryRow):
        boost = 6 if row.kind == "secret" else 3 if row.bucket == "core" else 0
        return f"{row.key} {row.content}", row.updated_at, boost
    return row.text, row.at, 1 if row.role == "assistant" else 0


def _score(text: str, asked: list[str], boost: int, recency: float) -> float | None:
    if not asked:
        return 1.0
    held = [word for word in asked if _holds(pieces(text), pieces(word))]
    if not held:
        return None
    total = boost + sum(16 if len(word) >= 5 else 10 for word in held)
    if _stands_in(normal(text), " ".join(asked)):
        total += 24
    if held == asked:
        total += 14
    return total + recency


def _holds(all_pieces: list[str], run: list[str]) -> bool:
    starts = range(len(all_pieces) - len(run) + 1)
    return any(all_pieces[start : start + len(run)] == run for start in starts)


def _stands_in(text: str, phrase: str) -> bool:
    start = text.find(phrase)
    while start >= 0:
        if _is_edge(text, start) and _is_edge(text, start + len(phrase)):
            return True
        start = text.find(phrase, start + 1)
    return False


def _is_edge(text: str, place: int) -> bool:
    """Tell whether a word may end or begin there."""
    before, after = text[:place], text[place:]
    if not before or not after or before[-1] in " ._:/+-" or after[0] in " ._:/+-":
        return True
    if unicodedata.category(after[0])[0] == "M":
        return False
    while unicodedata.category(before[-1])[0] == "M":
        before = before[:-1]
    return _is_spaceless(before[-1]) or _is_spaceless(after[0])


def _is_spaceless(character: str) -> bool:
    return unicodedata.name(character, "").startswith(SPACELESS)
