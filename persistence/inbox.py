"""Messages for streams that another process owns, and the answers to them.

A message is a row; its owner answers in it, in the very transaction of what the message led to.
So an asker whose owner has died, and which has taken the stream over since, knows from the row
whether that happened.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from msgspec import Struct

from persistence.engine import translated_errors
from persistence.notices import CHANNEL, Notice, announce
from persistence.postgres import NOW_US
from persistence.schema import inbox, workers

KEPT_S = 300
"""Age at which a message is deleted; whoever asked has given up long before."""

MESSAGES_MAX = 1_000
LINES_TOLD_AT_ONCE = 20
"""So many of usual length fit into a notice."""


class Message(Struct, frozen=True, gc=False):
    """A message for a stream of this process."""

    id: int
    asker: str
    stream_id: str
    body: bytes


class Inbox:
    """Puts messages to others, takes those to this process, which has the ``name``.

    Every method may block on the database and raises StoreUnavailableError when it can't be
    reached.
    """

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def put(self, owner: str, stream_id: str, body: bytes) -> int:
        """Put a message to the owner, who is told; return its id."""
        notice = Notice(self._name, asked=(owner,)).encode()
        with translated_errors(), self._engine.connect() as connection:
            found = connection.exec_driver_sql(
                "WITH put AS (INSERT INTO inbox (owner, asker, stream_id, message, put_at)"  # noqa: S608 - made of constants
                f" VALUES (%s, %s, %s, %s, {NOW_US}) RETURNING id)"
                " SELECT id FROM put, pg_notify(%s, %s)",
                (owner, self._name, stream_id, body, CHANNEL, notice),
            )
            return int(found.scalar_one())

    def messages(self) -> list[Message]:
        """Return what this process is asked and has not answered, the oldest first."""
        query = (
            sa.select(inbox.c.id, inbox.c.asker, inbox.c.stream_id, inbox.c.message)
            .where(inbox.c.owner == self._name, inbox.c.answer.is_(None))
            .order_by(inbox.c.id)
            .limit(MESSAGES_MAX)
        )
        with translated_errors(), self._engine.connect() as connection:
            return [Message(*row) for row in connection.execute(query)]

    def answer(self, message: Message, body: bytes) -> None:
        """Answer a message that led to nothing in the log, and tell who asked."""
        change = (
            sa.update(inbox)
            .where(inbox.c.id == message.id, inbox.c.answer.is_(None))
            .values(answer=body)
        )
        with translated_errors(), self._engine.connect() as connection:
            connection.execute(change)
        announce(self._engine, Notice(self._name, answered=(message.asker,)))

    def tell(self, lines: Sequence[tuple[int, str, str]]) -> None:
        """Tell every process lines for operators; some are left out where there are too many."""
        for first in range(0, len(lines), LINES_TOLD_AT_ONCE):
            part = tuple(lines[first : first + LINES_TOLD_AT_ONCE])
            announce(self._engine, Notice(self._name, lines=part))

    def answers(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Return the answers to those of the messages that have one."""
        query = sa.select(inbox.c.id, inbox.c.answer).where(
            inbox.c.id.in_(ids), inbox.c.answer.is_not(None)
        )
        with translated_errors(), self._engine.connect() as connection:
            return {row.id: row.answer for row in connection.execute(query)}

    def withdraw(self, message_id: int) -> bool:
        """Delete a message; tell whether it had no answer. One that has an answer stays."""
        unanswered = sa.delete(inbox).where(inbox.c.id == message_id, inbox.c.answer.is_(None))
        with translated_errors(), self._engine.connect() as connection:
            return connection.execute(unanswered).rowcount == 1

    def is_alive(self, owner: str) -> bool:
        """Tell whether a process has its lease, as far as anybody has noticed."""
        query = sa.select(workers.c.id).where(workers.c.name == owner)
        with translated_errors(), self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def sweep(self) -> None:
        """Delete what is too old for anybody to wait for."""
        old: sa.ColumnElement[int] = sa.literal_column(f"{NOW_US} - {KEPT_S * 1_000_000}")
        with translated_errors(), self._engine.connect() as connection:
            connection.execute(sa.delete(inbox).where(inbox.c.put_at < old))
