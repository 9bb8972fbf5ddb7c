"""SQLite databases with the newest schema, migrated once for all tests of this process."""

import contextlib
import tempfile
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from persistence.engine import parse_url, write_engine
from persistence.migration import ensure_schema


@cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        engine = write_engine(parse_url(f"sqlite:///{path}"))
        ensure_schema(engine)
        engine.dispose()  # the last connection writes all into the file itself
        return path.read_bytes()


def make_database(path: Path) -> sa.URL:
    """Make a database with nothing in it, as a migration leaves it, and return its URL."""
    with contextlib.suppress(FileExistsError), path.open("xb") as file:
        file.write(_template())
    return parse_url(f"sqlite:///{path}")
