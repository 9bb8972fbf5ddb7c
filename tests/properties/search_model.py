"""The search as the contract words it: one row after the other, without an index."""

import itertools
import unicodedata
from collections.abc import Iterable

from persistence.memories import EpisodeHit, Hit, MemoryHit
from persistence.records import MemoryRow, Row
from persistence.words import normal, pieces

SPACELESS = (
    "CJK",
    "IDEOGRAPHIC ITERATION",
    "HIRAGANA",
    "KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
)


def search(rows: Iterable[Row], query: str, *, limit: int, now_ms: int, secrets: bool) -> list[Hit]:
    written = _counting(normal(query[:4_000]).split())[:32]
    asked = _counting(part for word in written for part in _parts(word))[:32]
    phrase = " ".join(written)
    found: list[Hit] = []
    for row in rows:
        if isinstance(row, MemoryRow) and (
            not row.active or (row.kind == "secret" and not secrets)
        ):
            continue
        text, at, boost = _described(row)
        recency = max(0.0, 8 - (now_ms - at) / 86_400_000 / 14)
        score = _score(text, asked, phrase, boost, recency)
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


def _counting(found: Iterable[str]) -> list[str]:
    """Return each word once, of those that have enough to ask for."""
    return [
        word
        for word in dict.fromkeys(found)
        if any(each.isalnum() for each in word) and (len(word) > 1 or _is_spaceless(word))
    ]


def _parts(word: str) -> list[str]:
    """Return what a word is asked for by: where spaces are not needed, each two letters."""
    letters: list[str] = []
    for each in word:
        if letters and unicodedata.category(each)[0] == "M":
            letters[-1] += each
        else:
            letters.append(each)
    parts: list[str] = []
    for spaceless, run in itertools.groupby(letters, lambda letter: _is_spaceless(letter[0])):
        together = list(run)
        size = 2 if spaceless and len(together) > 2 else len(together)
        parts += [
            "".join(together[start : start + size]) for start in range(len(together) - size + 1)
        ]
    return parts


def _points(word: str) -> int:
    return 16 if len(word) >= 5 and not _is_spaceless(word[0]) else 10


def _score(text: str, asked: list[str], phrase: str, boost: int, recency: float) -> float | None:
    if not asked:
        return 1.0
    held = [word for word in asked if _holds(pieces(text), pieces(word))]
    if not held:
        return None
    total = boost + sum(map(_points, held))
    if _stands_in(normal(text), phrase):
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
