"""How well a row answers a query: the HTTP contract's formula, as SQL for any database.

A row's score is its boost, and points for each word of the query that it holds, PHRASE_POINTS if
it holds them as they stand in the query, ALL_WORDS_POINTS if it holds all of them, and
RECENCY_POINTS less one for each RECENCY_DAYS of its age, 0 at least. Of equal ones the newer comes
first, then the one with the higher id.
"""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from persistence.records import EpisodeRow, MemoryRow
from persistence.schema import episodes, memories
from persistence.words import is_spaceless, words, written

QUERY_CHARS_MAX = 4_000
QUERY_WORDS_MAX = 32
"""A query is cut there: its length is the client's choice, and each word costs a search."""

LONG_WORD_CHARS = 5
LONG_WORD_POINTS = 16
SHORT_WORD_POINTS = 10
PHRASE_POINTS = 24
ALL_WORDS_POINTS = 14
RECENCY_POINTS = 8.0
RECENCY_DAYS = 14.0
DAY_MS = 86_400_000.0

NEWEST_SCORE = 1.0
"""What a row scores for being new, where no word was asked for."""


class Asked(Struct, frozen=True, gc=False):
    """What a query asks for: its words, and the phrase that they stand in."""

    words: tuple[str, ...]
    phrase: str


class Ranked(Struct, frozen=True):
    """A table that is searched, and what the formula takes from it."""

    table: sa.Table
    columns: tuple[sa.Column[Any], ...]
    """What makes a row, in its fields' order."""

    at: sa.Column[int]
    boost: sa.ColumnElement[int]
    findable: sa.ColumnElement[bool]
    """Which rows may be found; ``secrets`` tells whether secrets may."""


RANKED_MEMORIES = Ranked(
    memories,
    tuple(
        memories.c["memory_key" if name == "key" else name] for name in MemoryRow.__struct_fields__
    ),
    memories.c.updated_at,
    sa.case((memories.c.kind == "secret", 6), (memories.c.bucket == "core", 3), else_=0),
    memories.c.active & (sa.bindparam("secrets", type_=sa.Boolean) | (memories.c.kind != "secret")),
)
RANKED_EPISODES = Ranked(
    episodes,
    tuple(episodes.c[name] for name in EpisodeRow.__struct_fields__),
    episodes.c.at,
    sa.case((episodes.c.role == "assistant", 1), else_=0),
    sa.true(),
)


def asked(query: str) -> Asked:
    """Return what a query asks for; where there is no word it asks for what is new.

    The phrase is of the words as they are written.
    """
    phrase = " ".join(written(query[:QUERY_CHARS_MAX])[:QUERY_WORDS_MAX])
    return Asked(tuple(words(phrase)[:QUERY_WORDS_MAX]), phrase)


def points(word: str) -> int:
    """Return what a row scores for holding the word; in a script without spaces none is long."""
    is_long = len(word) >= LONG_WORD_CHARS and not is_spaceless(word)
    return LONG_WORD_POINTS if is_long else SHORT_WORD_POINTS


def best(ranked: Ranked, found: sa.FromClause) -> sa.Select[Any]:
    """Return the query for the best rows of a stream, with their scores.

    ``found`` has a ``row``'s points for words and phrase, and how many words it holds. To be
    given: ``stream``, ``asked_words`` (how many), ``secrets``, ``now_ms`` and ``limit``.
    """
    table, key = ranked.table, ranked.table.c.row
    recency = RECENCY_POINTS - (_integer("now_ms") - ranked.at) / DAY_MS / RECENCY_DAYS
    score = (
        ranked.boost
        + found.c.points
        + sa.case((found.c.words == _integer("asked_words"), ALL_WORDS_POINTS), else_=0)
        + sa.case((recency > 0, recency), else_=0.0)
    ).label("score")
    # First the ranking, then the rows' text: of those that are not among the best it isn't read.
    ranking = (
        sa.select(key, score)
        .join_from(found, table, found.c.row == key)
        .where(table.c.stream == _integer("stream"), ranked.findable)
        .order_by(score.desc(), ranked.at.desc(), table.c.id.desc())
        .limit(_integer("limit"))
        .subquery("ranking")
    )
    return (
        sa.select(*ranked.columns, ranking.c.score)
        .join_from(ranking, table, ranking.c.row == key)
        .order_by(ranking.c.score.desc(), ranked.at.desc(), table.c.id.desc())
    )


def newest(ranked: Ranked) -> sa.Select[Any]:
    """Return the query for the newest rows of a ``stream``, with ``secrets`` and ``limit``."""
    return (
        sa.select(*ranked.columns, sa.literal(NEWEST_SCORE).label("score"))
        .where(ranked.table.c.stream == _integer("stream"), ranked.findable)
        .order_by(ranked.at.desc(), ranked.table.c.id.desc())
        .limit(_integer("limit"))
    )


def _integer(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.BigInteger)
