"""Full-text search in PostgreSQL: all that is PostgreSQL's own about it.

A table lies beside each table that is searched. What a word is says words.py alone, so a text is
indexed as the array of its pieces, in their order, after a name of the stream: a GIN index finds
the rows that hold all pieces of a word, and of these the ones where they stand in a row are kept.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from persistence.ranking import PHRASE_POINTS, Asked, points
from persistence.words import pieces, spelling

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor

NUL_STAND_IN = "\N{REPLACEMENT CHARACTER}"
"""PostgreSQL's texts can't hold U+0000. Either character separates words."""

PIECE_CHARACTERS_MAX = 200
"""A GIN index holds no longer ones than some 2,700 bytes; what is longer is known by its digest."""


def storable(text: str) -> str:
    """Return the text as a column of PostgreSQL can hold it; the log has it as it was."""
    return text.replace("\0", NUL_STAND_IN)


class PostgresIndex:
    """The index of one table, kept by who writes the table and asked by who reads it."""

    def __init__(self, name: str, table: str) -> None:
        self._write = (
            f"INSERT INTO {name} (row, text, pieces) VALUES (%s, %s, %s)"  # noqa: S608 - made of constants
            " ON CONFLICT (row) DO UPDATE SET text = excluded.text, pieces = excluded.pieces"
            f" WHERE {name}.text <> excluded.text"
        )
        self._delete = f"DELETE FROM {name} WHERE row = %s"  # noqa: S608
        self._drop = (
            f"DELETE FROM {name} WHERE row IN"  # noqa: S608
            f" (SELECT row FROM {table} WHERE stream = %s AND id <= %s)"
        )
        self._entries = (
            f"SELECT {table}.id, {name}.text, {name}.pieces FROM {table}"  # noqa: S608
            f" JOIN {name} ON {name}.row = {table}.row WHERE {table}.stream = %s"
        )
        self.found = _found(name)

    def entries(self) -> str:
        """Return the statement for what a stream's rows are found by: stream -> id, two columns."""
        return self._entries

    def entry(self, stream: int, text: str) -> tuple[object, ...]:
        """Return the two columns that ``entries`` has for a row with this text."""
        return _indexed(0, stream, text)[1:]

    def put(self, cursor: "DBAPICursor", row: int, stream: int, text: str | None) -> None:
        """Index the text for the row, or nothing."""
        if text is None:
            cursor.execute(self._delete, (row,))
        else:
            cursor.execute(self._write, _indexed(row, stream, text))

    def fill(self, cursor: "DBAPICursor", stream: int, texts: Sequence[tuple[int, str]]) -> None:
        """Index the texts for their rows, of which none is indexed."""
        cursor.executemany(self._write, [_indexed(row, stream, text) for row, text in texts])

    def drop(self, cursor: "DBAPICursor", stream: int, last_id: int) -> None:
        """Forget the stream's rows up to an id, while the table still has them."""
        cursor.execute(self._drop, (stream, last_id))

    def scrub(self, cursor: "DBAPICursor") -> None:
        """Do nothing: what is deleted goes with the next VACUUM."""

    def asked_for(self, stream: int, asked: Asked) -> str:
        """Return ``found``'s parameter ``asked``: the words of a query, and their phrase.

        A JSON array of objects: pieces, how they stand in a row, points, how many words it stands
        for, a spelling that the text must hold besides.
        """
        phrase = asked.phrase
        if pieces(phrase) == [phrase]:  # then whoever holds it holds it as it stands
            return json.dumps([_wanted(stream, phrase, points(phrase) + PHRASE_POINTS, 1)])
        each = [_wanted(stream, word, points(word), 1) for word in asked.words]
        whole = _wanted(stream, phrase, PHRASE_POINTS, 0, spelling(phrase))
        return json.dumps([*each, whole])


def _found(name: str) -> sa.CTE:
    """Return what an index finds: row, points and words, as ranking.best takes them."""
    statement = f"""
        SELECT {name}.row AS row, sum(asked.points) AS points, sum(asked.words) AS words
        FROM jsonb_to_recordset(CAST(:asked AS jsonb))
            AS asked(pieces text[], in_a_row text, points integer, words integer, spelling text)
        JOIN {name} ON {name}.pieces @> asked.pieces
            AND (asked.in_a_row IS NULL
                OR strpos('|' || array_to_string({name}.pieces, '|') || '|', asked.in_a_row) > 0)
            AND (asked.spelling IS NULL OR strpos({name}.text, asked.spelling) > 0)
        GROUP BY {name}.row
    """  # noqa: S608 - made of constants
    columns: list[sa.ColumnClause[Any]] = [
        sa.column(each, sa.BigInteger) for each in ("row", "points", "words")
    ]
    return sa.text(statement).columns(*columns).cte("found")


def _wanted(
    stream: int, text: str, text_points: int, words: int, spelled: str | None = None
) -> dict[str, object]:
    found = _shortened(pieces(text))
    in_a_row = f"|{'|'.join(found)}|" if len(found) > 1 else None
    return {
        "pieces": [_name_of(stream), *found],
        "in_a_row": in_a_row,
        "points": text_points,
        "words": words,
        "spelling": spelled,
    }


def _indexed(row: int, stream: int, text: str) -> tuple[int, str, list[str]]:
    return row, spelling(text), [_name_of(stream), *_shortened(pieces(text))]


def _shortened(found: list[str]) -> list[str]:
    return [
        piece if len(piece) <= PIECE_CHARACTERS_MAX else f"#{sha256(piece.encode()).hexdigest()}"
        for piece in found
    ]


def _name_of(stream: int) -> str:
    return f"|{stream}"  # no piece has such a character


MEMORY_INDEX = PostgresIndex("memory_index", "memories")
EPISODE_INDEX = PostgresIndex("episode_index", "episodes")
