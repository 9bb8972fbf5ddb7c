"""Messages in the inbox of an SQL store, put and read past the store."""

import sqlalchemy as sa

from persistence.engine import write_engine
from persistence.schema import inbox


def put_message(url: sa.URL) -> int:
    """Put a message and return its id."""
    engine = write_engine(url)
    values = {"owner": "me", "asker": "asker", "stream_id": "stream", "message": b"", "put_at": 1}
    with engine.begin() as connection:
        found: int = connection.execute(
            sa.insert(inbox).values(values).returning(inbox.c.id)
        ).scalar_one()
    engine.dispose()
    return found


def given_answers(url: sa.URL) -> dict[int, bytes | None]:
    """Return the answers to all messages, by their ids."""
    engine = write_engine(url)
    with engine.begin() as connection:
        rows = connection.execute(sa.select(inbox.c.id, inbox.c.answer)).all()
    engine.dispose()
    return {row.id: row.answer for row in rows}
