"""Audit: the log's Merkle tree, and digests that are stored only once their payload is erased.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")

WRITTEN = (
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
    "hash",
)
"""What no update of an event may change. Payload and salt may be erased, and leave a digest."""


def upgrade() -> None:
    op.create_table(
        "leaves",
        sa.Column("number", KEY, primary_key=True, autoincrement=False),
        sa.Column(
            "stream",
            KEY,
            sa.ForeignKey("streams.id", name="fk_leaves_stream_streams"),
            nullable=False,
        ),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_leaves_stream", "leaves", ["stream", "number"])
    op.create_table(
        "nodes",
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("number", KEY, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        _let_digests_be_stored_on_postgresql()
    else:
        _let_digests_be_stored_on_sqlite()


def _let_digests_be_stored_on_sqlite() -> None:
    changed = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in WRITTEN)
    op.execute("DROP TRIGGER events_no_update")
    op.execute(
        f"""CREATE TRIGGER events_no_update BEFORE UPDATE ON events
        WHEN {changed} OR NEW.payload IS NOT NULL OR NEW.salt IS NOT NULL
          OR typeof(NEW.payload_digest) != 'blob' OR length(NEW.payload_digest) != 32
          OR (OLD.payload_digest != x'' AND NEW.payload_digest IS NOT OLD.payload_digest)
        BEGIN SELECT RAISE(ABORT, 'events are append-only: a payload can only be erased'); END"""
    )


def _let_digests_be_stored_on_postgresql() -> None:
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in ("xid", *WRITTEN))
    op.execute("DROP TRIGGER events_no_update ON events")
    op.execute(
        f"""CREATE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH ROW
        WHEN ({changed} OR NEW.payload IS NOT NULL OR NEW.salt IS NOT NULL
          OR NEW.payload_digest IS DISTINCT FROM CASE OLD.payload_digest
            WHEN ''::bytea THEN sha256(OLD.salt || OLD.payload) ELSE OLD.payload_digest END)
        EXECUTE FUNCTION refuse_change()"""
    )
