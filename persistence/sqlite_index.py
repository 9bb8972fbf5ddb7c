"""Full-text search in SQLite: all that is SQLite's own about it.

An FTS5 table lies beside each table that is searched; its rowid is the row's key. What a word is
says words.py alone: what is indexed is a spelling, which the tokenizer 'ascii' splits at its
punctuation into the pieces. The other column names the stream, so that a search walks the
postings of its own stream only.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from persistence.ranking import PHRASE_POINTS, Asked, points
from persistence.words import pieces, spelling

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor


class SqliteIndex:
    """The index of one table, kept by who writes the table and asked by who reads it."""

    def __init__(self, name: str, table: str) -> None:
        self._find = f"SELECT text FROM {name} WHERE rowid = ?"  # noqa: S608 - made of constants
        self._write = f"INSERT OR REPLACE INTO {name} (rowid, stream, text) VALUES (?, ?, ?)"  # noqa: S608
        self._delete = f"DELETE FROM {name} WHERE rowid = ?"  # noqa: S608
        self._drop = (
            f"DELETE FROM {name} WHERE rowid IN"  # noqa: S608
            f" (SELECT row FROM {table} WHERE stream = ? AND id <= ?)"
        )
        self._optimize = f"INSERT INTO {name} ({name}) VALUES ('optimize')"  # noqa: S608
        self._entries = (
            f"SELECT {table}.id, {name}.stream, {name}.text FROM {table}"  # noqa: S608
            f" JOIN {name} ON {name}.rowid = {table}.row WHERE {table}.stream = ?"
        )
        self.found = _found(name)

    def entries(self) -> str:
        """Return the statement for what a stream's rows are found by: stream -> id, two columns."""
        return self._entries

    def entry(self, stream: int, text: str) -> tuple[object, ...]:
        """Return the two columns that ``entries`` has for a row with this text."""
        return _name_of(stream), spelling(text)

    def put(self, cursor: "DBAPICursor", row: int, stream: int, text: str | None) -> None:
        """Index the text for the row, or nothing; where nothing changes it costs a read."""
        spelled = None if text is None else spelling(text)
        cursor.execute(self._find, (row,))
        indexed = [found for (found,) in cursor.fetchall()]
        if spelled is None:
            if indexed:
                cursor.execute(self._delete, (row,))
        elif indexed != [spelled]:
            cursor.execute(self._write, (row, _name_of(stream), spelled))

    def fill(self, cursor: "DBAPICursor", stream: int, texts: Sequence[tuple[int, str]]) -> None:
        """Index the texts for their rows, of which none is indexed."""
        name = _name_of(stream)
        cursor.executemany(self._write, [(row, name, spelling(text)) for row, text in texts])

    def drop(self, cursor: "DBAPICursor", stream: int, last_id: int) -> None:
        """Forget the stream's rows up to an id, while the table still has them."""
        cursor.execute(self._drop, (stream, last_id))

    def scrub(self, cursor: "DBAPICursor") -> None:
        """Keep no word of what is not indexed any more: all is merged, which takes its time."""
        cursor.execute(self._optimize)

    def asked_for(self, stream: int, asked: Asked) -> str:
        """Return ``found``'s parameter ``asked``: the words of a query, and their phrase.

        A JSON array of [FTS5's query, points, how many words it stands for, a spelling that the
        text must hold besides].
        """
        phrase = asked.phrase
        if pieces(phrase) == [phrase]:  # then whoever holds it holds it as it stands
            return json.dumps([(_match(stream, phrase), points(phrase) + PHRASE_POINTS, 1, None)])
        each = [(_match(stream, word), points(word), 1, None) for word in asked.words]
        return json.dumps([*each, (_match(stream, phrase), PHRASE_POINTS, 0, spelling(phrase))])


def _found(name: str) -> sa.CTE:
    """Return what an index finds: row, points and words, as ranking.best takes them."""
    statement = f"""
        SELECT {name}.rowid AS row, sum(points) AS points, sum(words) AS words
        FROM (
            SELECT json_extract(value, '$[0]') AS match, json_extract(value, '$[1]') AS points,
                json_extract(value, '$[2]') AS words, json_extract(value, '$[3]') AS spelling
            FROM json_each(:asked)
        ) AS asked CROSS JOIN {name}
        WHERE {name} MATCH match AND (spelling IS NULL OR instr({name}.text, spelling))
        GROUP BY {name}.rowid
    """  # noqa: S608 - made of constants
    columns: list[sa.ColumnClause[Any]] = [
        sa.column(each, sa.BigInteger) for each in ("row", "points", "words")
    ]
    return sa.text(statement).columns(*columns).cte("found")


def _match(stream: int, text: str) -> str:
    """Return FTS5's query for the text's pieces in a row: quoted, none of them is syntax."""
    return f'stream : "{_name_of(stream)}" AND text : "{" ".join(pieces(text))}"'


def _name_of(stream: int) -> str:
    return f"s{stream}"


MEMORY_INDEX = SqliteIndex("memory_index", "memories")
EPISODE_INDEX = SqliteIndex("episode_index", "episodes")
