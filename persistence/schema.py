"""The tables, for SQLite and PostgreSQL alike; migrations/ makes them.

An event's row lies by position, not beside its stream's other rows: measured in docs/adr/0002.
What only SQLite has, the full-text indexes, is in sqlite_index.py; what only PostgreSQL has, such
as the transaction of each event, is in postgres.py and postgres_index.py.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)

PAGED_TYPES = ("message.completed", "tool.completed")
"""The types that a session's history pages over: an index has to name them."""

PAGED = f"type IN ({', '.join(repr(name) for name in PAGED_TYPES)})"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Key = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by INTEGER keys only

streams = Table(
    "streams",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("stream_id", String, nullable=False, unique=True),
    Column("version", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("owner", String),
    Column("epoch", BigInteger, nullable=False),
    Column("listed", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Index(
        "ix_streams_active", "id", sqlite_where=text("active = 1"), postgresql_where=text("active")
    ),
    Index("ix_streams_owner", "owner"),
)

events = Table(
    "events",
    metadata,
    Column("position", _Key, primary_key=True),
    Column("stream", _Key, ForeignKey("streams.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("type", String, nullable=False),
    Column("schema_version", SmallInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("principal", String),
    Column("correlation_id", String),
    Column("causation_seq", BigInteger),
    Column("payload", LargeBinary),
    Column("salt", LargeBinary),
    Column("payload_digest", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("stream", "seq"),
    Index(
        "ix_events_paged",
        "stream",
        "seq",
        sqlite_where=text(PAGED),
        postgresql_where=text(PAGED),
    ),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("stream", _Key, ForeignKey("streams.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("state_version", SmallInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

memories = Table(
    "memories",
    metadata,
    Column("row", _Key, primary_key=True),
    Column("stream", _Key, ForeignKey("streams.id"), nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("bucket", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("memory_key", String, nullable=False),
    Column("source", String, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_accessed_at", BigInteger),
    Column("superseded_at", BigInteger),
    Column("superseded_by", BigInteger),
    Column("content", String, nullable=False),  # last: a search ranks without reading that far
    UniqueConstraint("stream", "id"),
    Index(
        "ix_memories_active_key",
        "stream",
        "memory_key",
        unique=True,
        sqlite_where=text("active = 1"),
        postgresql_where=text("active"),
    ),
    Index(
        "ix_memories_core",
        "stream",
        "updated_at",
        "id",
        sqlite_where=text("active = 1 AND bucket = 'core'"),
        postgresql_where=text("active AND bucket = 'core'"),
    ),
)

episodes = Table(
    "episodes",
    metadata,
    Column("row", _Key, primary_key=True),
    Column("stream", _Key, ForeignKey("streams.id"), nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("session_key", String, nullable=False),
    Column("session_id", String, nullable=False),
    Column("role", String, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("text", String, nullable=False),
    UniqueConstraint("stream", "id"),
)

leaves = Table(
    "leaves",
    metadata,
    Column("number", _Key, primary_key=True, autoincrement=False),
    Column("stream", _Key, ForeignKey("streams.id"), nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("ix_leaves_stream", "stream", "number"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", _Key, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("started_at", BigInteger, nullable=False),
    Column("renewed_at", BigInteger, nullable=False),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("owner", String, nullable=False),
    Column("asker", String, nullable=False),
    Column("stream_id", String, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("put_at", BigInteger, nullable=False),
    Column("answer", LargeBinary),
    Index(
        "ix_inbox_unanswered",
        "owner",
        "id",
        sqlite_where=text("answer IS NULL"),
        postgresql_where=text("answer IS NULL"),
    ),
)
