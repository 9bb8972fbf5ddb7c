"""The schema's version: bring a database up to it, or say why it can't be used.

Alembic is loaded only where there is something to migrate: it takes a tenth of a second and more.
"""

from importlib import resources
from typing import TYPE_CHECKING

import sqlalchemy as sa

from persistence.engine import is_sqlite, translated_errors
from persistence.errors import SchemaMismatchError, SchemaOutdatedError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATE_COMMAND = "sessiond migrate --database-url URL"

LOCK_KEY = 0x5E55_0001
"""Of the advisory lock that who migrates a PostgreSQL database holds until it has committed."""


def migrate(engine: sa.Engine) -> str:
    """Apply every migration that is missing, all or none; return the revision reached.

    Whoever comes second waits, and finds nothing left to do.
    """
    from alembic import command

    with translated_errors(), engine.begin() as connection:
        if not is_sqlite(engine.url):  # there the transaction begins as the one that writes
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_KEY)))
        _refuse_unknown(connection)
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return _newest()


def ensure_schema(engine: sa.Engine) -> None:
    """Make the schema current: SQLite is migrated, another database must have been.

    Raises SchemaMismatchError, whose message says what to run.
    """
    try:
        require_schema(engine)
    except SchemaOutdatedError:
        if not is_sqlite(engine.url):
            raise
        migrate(engine)


def require_schema(engine: sa.Engine) -> None:
    """Change nothing; raise SchemaMismatchError where the schema is not this program's."""
    with translated_errors(), engine.connect() as connection:
        found = _refuse_unknown(connection)
    if found == _newest():
        return
    raise SchemaOutdatedError(
        f"The database's schema is {found or 'not there yet'}; this program needs {_newest()}. "
        f"Run: {MIGRATE_COMMAND}"
    )


def _refuse_unknown(connection: sa.Connection) -> str | None:
    """Return the database's revision, None for a new one; refuse one from a newer program."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if found is not None and found not in revisions():
        raise SchemaMismatchError(
            f"The database's schema {found} is newer than this program, which knows up to "
            f"{_newest()}. Use the newer program."
        )
    return found


def revisions() -> list[str]:
    """Return the revisions that this program knows, oldest first, by their files' names."""
    names = [each.name for each in resources.files("migrations").joinpath("versions").iterdir()]
    return sorted([name.partition("_")[0] for name in names if name.endswith(".py")])


def _newest() -> str:
    return revisions()[-1]


def _alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    return config
