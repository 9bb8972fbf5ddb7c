"""The event log: streams, events, snapshots, and the triggers that keep events append-only.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PAGED = "type IN ('message.completed', 'tool.completed')"
KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")

IDENTITY_COLUMNS = (
    "position",
    "stream",
    "seq",
    "epoch",
    "type",
    "schema_version",
    "recorded_at",
    "principal",
    "correlation_id",
    "causation_seq",
    "payload_digest",
    "hash",
)
"""What an event is: no update may change these. Payload and salt may only be erased."""


def upgrade() -> None:
    op.create_table(
        "streams",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("stream_id", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("stream_id", name="uq_streams_stream_id"),
    )
    op.create_table(
        "events",
        sa.Column("position", KEY, primary_key=True),
        sa.Column(
            "stream",
            KEY,
            sa.ForeignKey("streams.id", name="fk_events_stream_streams"),
            nullable=False,
        ),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("schema_version", sa.SmallInteger, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("principal", sa.String),
        sa.Column("correlation_id", sa.String),
        sa.Column("causation_seq", sa.BigInteger),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("payload_digest", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("stream", "seq", name="uq_events_stream_seq"),
    )
    op.create_index(
        "ix_events_paged",
        "events",
        ["stream", "seq"],
        sqlite_where=sa.text(PAGED),
        postgresql_where=sa.text(PAGED),
    )
    op.create_table(
        "snapshots",
        sa.Column(
            "stream",
            KEY,
            sa.ForeignKey("streams.id", name="fk_snapshots_stream_streams"),
            primary_key=True,
        ),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("state_version", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        _keep_append_only_on_sqlite()


def _keep_append_only_on_sqlite() -> None:
    changed = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in IDENTITY_COLUMNS)
    op.execute(
        f"""CREATE TRIGGER events_no_update BEFORE UPDATE ON events
        WHEN {changed} OR NEW.payload IS NOT NULL OR NEW.salt IS NOT NULL
        BEGIN SELECT RAISE(ABORT, 'events are append-only: a payload can only be erased'); END"""
    )
    op.execute(
        """CREATE TRIGGER events_no_delete BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"""
    )
    # INSERT OR REPLACE would delete without firing the trigger above.
    op.execute(
        """CREATE TRIGGER events_no_replace BEFORE INSERT ON events
        WHEN EXISTS (SELECT 1 FROM events WHERE stream = NEW.stream AND seq = NEW.seq)
          OR EXISTS (SELECT 1 FROM events WHERE position = NEW.position)
        BEGIN SELECT RAISE(ABORT, 'events are append-only: this one exists'); END"""
    )
    op.execute(
        """CREATE TRIGGER streams_no_delete BEFORE DELETE ON streams
        BEGIN SELECT RAISE(ABORT, 'streams are never deleted'); END"""
    )
