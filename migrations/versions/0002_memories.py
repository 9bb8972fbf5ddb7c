"""Memories: the projection of memory streams, and on SQLite its full-text indexes.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")

OPTIONS = "tokenize = 'ascii', columnsize = 0"
"""'ascii' splits at ASCII's punctuation alone; columns' sizes serve a ranking that isn't used."""


def upgrade() -> None:
    op.create_table(
        "memories",
        sa.Column("row", KEY, primary_key=True),
        sa.Column(
            "stream",
            KEY,
            sa.ForeignKey("streams.id", name="fk_memories_stream_streams"),
            nullable=False,
        ),
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("bucket", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("memory_key", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("last_accessed_at", sa.BigInteger),
        sa.Column("superseded_at", sa.BigInteger),
        sa.Column("superseded_by", sa.BigInteger),
        sa.Column("content", sa.String, nullable=False),
        sa.UniqueConstraint("stream", "id", name="uq_memories_stream_id"),
    )
    op.create_index(
        "ix_memories_active_key",
        "memories",
        ["stream", "memory_key"],
        unique=True,
        sqlite_where=sa.text("active = 1"),
        postgresql_where=sa.text("active"),
    )
    op.create_index(
        "ix_memories_core",
        "memories",
        ["stream", "updated_at", "id"],
        sqlite_where=sa.text("active = 1 AND bucket = 'core'"),
        postgresql_where=sa.text("active AND bucket = 'core'"),
    )
    op.create_table(
        "episodes",
        sa.Column("row", KEY, primary_key=True),
        sa.Column(
            "stream",
            KEY,
            sa.ForeignKey("streams.id", name="fk_episodes_stream_streams"),
            nullable=False,
        ),
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("session_key", sa.String, nullable=False),
        sa.Column("session_id", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.UniqueConstraint("stream", "id", name="uq_episodes_stream_id"),
    )
    if op.get_bind().dialect.name == "sqlite":
        for name in ("memory_index", "episode_index"):
            op.execute(f"CREATE VIRTUAL TABLE {name} USING fts5(stream, text, {OPTIONS})")
