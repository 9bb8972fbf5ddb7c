"""Several processes: who lives, what is asked of whom; and all that PostgreSQL needs besides.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")

WRITTEN = (
    "position",
    "xid",
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
"""What no update of an event may change."""


def upgrade() -> None:
    op.create_index(
        "ix_streams_active",
        "streams",
        ["id"],
        sqlite_where=sa.text("active = 1"),
        postgresql_where=sa.text("active"),
    )
    op.create_index("ix_streams_owner", "streams", ["owner"])
    op.create_table(
        "workers",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("renewed_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("name", name="uq_workers_name"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("asker", sa.String, nullable=False),
        sa.Column("stream_id", sa.String, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.Column("put_at", sa.BigInteger, nullable=False),
        sa.Column("answer", sa.LargeBinary),
    )
    op.create_index(
        "ix_inbox_unanswered",
        "inbox",
        ["owner", "id"],
        sqlite_where=sa.text("answer IS NULL"),
        postgresql_where=sa.text("answer IS NULL"),
    )
    if op.get_bind().dialect.name == "postgresql":
        _number_transactions()
        _keep_append_only()
        _index_texts()
        # Heads are updated all the time: with room beside them that touches no index.
        op.execute("ALTER TABLE streams SET (fillfactor = 50)")


def _number_transactions() -> None:
    """Give events what they are read on by: positions alone come in another order."""
    op.execute("ALTER TABLE events ADD xid xid8 NOT NULL DEFAULT pg_current_xact_id()")
    op.execute("CREATE INDEX ix_events_tail ON events (xid, position)")


def _keep_append_only() -> None:
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in WRITTEN)
    op.execute(
        """CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '% are append-only', TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation'; END $$"""
    )
    op.execute(
        f"""CREATE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH ROW
        WHEN ({changed} OR NEW.payload IS NOT NULL OR NEW.salt IS NOT NULL)
        EXECUTE FUNCTION refuse_change()"""
    )
    for table in ("events", "streams"):
        op.execute(
            f"""CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW
            EXECUTE FUNCTION refuse_change()"""
        )
        op.execute(
            f"""CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"""
        )


def _index_texts() -> None:
    """Make what persistence/postgres_index.py searches, beside each table that is searched."""
    for name in ("memory_index", "episode_index"):
        op.execute(
            f"CREATE TABLE {name} (row bigint CONSTRAINT pk_{name} PRIMARY KEY,"
            " text text NOT NULL, pieces text[] NOT NULL)"
        )
        op.execute(f"CREATE INDEX ix_{name}_pieces ON {name} USING gin (pieces)")
