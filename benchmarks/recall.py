"""Search and recall over many memories, against FTS5 by itself.

Ours: a gateway's MemoryService, asked for a few words, and for what its model is told beside a
prompt. Baseline: sqlite3's ``MATCH`` for any of the same words over the same texts, in the order
of bm25, with the same limit, in the same process. A ratio is one of times.
"""

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

from actors.memory.identity import identity_of
from benchmarks._gateway import open_gateway
from benchmarks._measure import Figures, Result, alternate, repetitions_of
from benchmarks._store import claim, open_log, temporary_folder
from persistence.records import Append, MemoryRow, Summary

SIZES = (1_000, 20_000)
LIMIT = 4
QUERIES = 20
QUERIES_QUICK = 10
QUERY_WORDS = 3
PROMPT_WORDS = 12
TEXT_WORDS = 20
CORE_EVERY = 400
VOCABULARY = [f"word{number}" for number in range(5_000)]
COMMONNESS = list(accumulate(1 / rank for rank in range(1, len(VOCABULARY) + 1)))
"""The second word is half as common as the first, the third a third: as in any language."""

IDENTITY = identity_of("agent:benchmark:companion:recall", "")
UNLISTED = Summary(listed=False, active=False, body=b"{}")
MATCH = "SELECT rowid, rank, text FROM bare WHERE bare MATCH ? ORDER BY rank LIMIT ?"


def run(*, quick: bool) -> list[Result]:
    """Measure each size over files of its own."""
    with temporary_folder() as folder:
        return [result for size in SIZES for result in _results(folder, size, quick=quick)]


def _results(folder: Path, size: int, *, quick: bool) -> list[Result]:
    some = random.Random(size)  # noqa: S311 - the same words in every run
    rows = [_memory(number, _words(some, TEXT_WORDS)) for number in range(1, size + 1)]
    queries = QUERIES_QUICK if quick else QUERIES
    searches = [_words(some, QUERY_WORDS) for _ in range(queries)]
    prompts = [_words(some, PROMPT_WORDS) for _ in range(queries)]
    database = folder / f"{size}.db"
    _remember(database, rows)
    with (
        contextlib.closing(_indexed(folder / f"{size}-bare.db", rows)) as bare,
        open_gateway(database, memory_recall_results_max=LIMIT) as gateway,
    ):

        def match(query: str) -> None:
            any_word = " OR ".join(f'"{word}"' for word in query.split())
            assert len(bare.execute(MATCH, (any_word, LIMIT)).fetchall()) == LIMIT

        def search(query: str) -> None:
            assert len(gateway.memory.search(IDENTITY, query, LIMIT, secrets=True)) == LIMIT

        def recall(prompt: str) -> None:
            assert len(gateway.memory.recall(IDENTITY, prompt).memory_ids) >= LIMIT

        repetitions = repetitions_of(quick=quick)
        results: list[Result] = []
        for name, ours, asked in (("search", search, searches), ("recall", recall, prompts)):
            runs = {"ours": _timed(ours, asked), "bare": _timed(match, asked)}
            samples = alternate(runs, repetitions)
            results.append(
                Result(
                    f"{name} by {len(asked[0].split())} words, {size:,} memories; FTS5's bm25",
                    f"{samples.median('ours', 'ms'):.2f} ms",
                    f"{samples.median('bare', 'ms'):.2f} ms",
                    samples.ratio("ours", "bare", "ms"),
                )
            )
    return results


def _timed(ask: Callable[[str], None], queries: Sequence[str]) -> Callable[[], Figures]:
    def timed() -> Figures:
        began = time.perf_counter()
        for query in queries:
            ask(query)
        return {"ms": (time.perf_counter() - began) / len(queries) * 1e3}

    return timed


def _words(some: random.Random, count: int) -> str:
    """Return different words, the common ones more often."""
    found: dict[str, None] = {}
    while len(found) < count:
        found |= dict.fromkeys(some.choices(VOCABULARY, cum_weights=COMMONNESS))
    return " ".join(found)


def _memory(number: int, content: str) -> MemoryRow:
    bucket = "core" if number % CORE_EVERY == 0 else "archival"
    return MemoryRow(
        number,
        bucket,
        "fact",
        f"key-{number}",
        content,
        "manual",
        active=True,
        created_at=0,
        updated_at=number,
    )


def _remember(database: Path, rows: Sequence[MemoryRow]) -> None:
    with open_log(database) as log:
        (head,) = claim(log, [IDENTITY.stream_id])
        outcomes = log.write([Append(head, (), UNLISTED, rows=tuple(rows))])
        assert outcomes == [head]


def _indexed(database: Path, rows: Sequence[MemoryRow]) -> sqlite3.Connection:
    bare = sqlite3.connect(database)
    with bare:
        bare.execute("CREATE VIRTUAL TABLE bare USING fts5(text)")
        texts = [(row.id, f"{row.key} {row.content}") for row in rows]
        bare.executemany("INSERT INTO bare (rowid, text) VALUES (?, ?)", texts)
    return bare
