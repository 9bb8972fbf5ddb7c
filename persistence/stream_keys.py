"""Where the wrapped keys of streams lie: in a database of their own, or beside the log."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from persistence.engine import is_sqlite, translated_errors

metadata = sa.MetaData()

stream_keys = sa.Table(
    "stream_keys",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("stream_id", sa.String, nullable=False, index=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)


class StoredKey(Struct, frozen=True):
    """A stream's data key, wrapped by the master key."""

    id: bytes
    stream_id: str
    wrapped: bytes


class KeyStore:
    """Keeps wrapped keys; makes the table where it is missing.

    A key that was deleted is overwritten in an SQLite file, and its log with it. Every method
    blocks on the database and raises StoreUnavailableError when it can't be reached.
    """

    def __init__(self, url: sa.URL) -> None:
        self._engine = sa.create_engine(url, pool_size=2, max_overflow=0)
        if is_sqlite(url):
            _settle(self._engine)
        with translated_errors():
            metadata.create_all(self._engine)

    def newest(self, stream_id: str) -> StoredKey | None:
        """Return the key that a stream got last."""
        of_stream = stream_keys.c.stream_id == stream_id
        found = self._found(_KEYS.where(of_stream).order_by(stream_keys.c.number.desc()).limit(1))
        return next(iter(found), None)

    def find(self, key_id: bytes) -> StoredKey | None:
        """Return a key by its id."""
        return next(iter(self._found(_KEYS.where(stream_keys.c.id == key_id))), None)

    def add(self, key: StoredKey, agree: Callable[[StoredKey], object]) -> None:
        """Keep a key, durably, unless ``agree`` raises at the oldest one.

        That one stays as it is until the new one is kept: ``rewrite`` waits for it.
        """
        values = {"id": key.id, "stream_id": key.stream_id, "wrapped": key.wrapped}
        with translated_errors(), self._engine.begin() as connection:
            for row in connection.execute(_OLDEST.with_for_update(read=True)).all():
                agree(_stored(row))
            connection.execute(sa.insert(stream_keys).values(values))

    def delete_others(self, stream_id: str, kept: bytes) -> list[bytes]:
        """Delete a stream's keys but one, durably; return their ids."""
        others = (stream_keys.c.stream_id == stream_id) & (stream_keys.c.id != kept)
        with translated_errors(), self._engine.begin() as connection:
            ids = list(connection.scalars(sa.select(stream_keys.c.id).where(others)))
            connection.execute(sa.delete(stream_keys).where(others))
        return [bytes(each) for each in ids]

    def rewrite(self, rewrapped: Callable[[StoredKey], bytes]) -> int:
        """Replace the wrapped form of all keys, all or none; return how many there are."""
        with translated_errors(), self._engine.begin() as connection:
            connection.execute(_OLDEST.with_for_update())
            keys = [_stored(row) for row in connection.execute(_KEYS).all()]
            for key in keys:
                change = sa.update(stream_keys).where(stream_keys.c.id == key.id)
                connection.execute(change.values(wrapped=rewrapped(key)))
        return len(keys)

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    def _found(self, query: sa.Select[Any]) -> list[StoredKey]:
        with translated_errors(), self._engine.connect() as connection:
            return [_stored(row) for row in connection.execute(query).all()]


_KEYS = sa.select(stream_keys.c.id, stream_keys.c.stream_id, stream_keys.c.wrapped)
_OLDEST = _KEYS.order_by(stream_keys.c.number).limit(1)


def _stored(row: Sequence[Any]) -> StoredKey:
    key_id, stream_id, wrapped = row
    return StoredKey(bytes(key_id), stream_id, bytes(wrapped))


def _settle(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def _connected(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]  # a driver's connection
        for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
