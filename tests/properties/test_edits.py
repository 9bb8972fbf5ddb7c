"""Any single edit of a stored log is named, behind the back of whatever keeps it append-only.

What no check can find is here too, with the reason: see NOT_FOUND.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from actors.audit.verifying.verification import verify_row
from actors.audit.verifying.whole_log import checked_by, here, verify_all
from persistence.engine import read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.raw_checks import strays
from persistence.raw_rows import RawRows
from tests.postgres.server import PostgresServer
from tests.properties.edited_log import Edit, Editor, fill
from tests.sqlite import make_database

EDITS_LEAST = 1_000
EACH = 3
"""How many single bytes are changed in each column of each row."""

Carry = Callable[[str, tuple[object, ...]], object]

NOT_FOUND = {
    "the owner": "UPDATE streams SET owner = 'somebody' WHERE stream_id = 'session:a'",
    "a risen epoch": "UPDATE streams SET epoch = epoch + 1 WHERE stream_id = 'session:a'",
}
"""What changes without an event: who may write a stream now, and the fence that rises with that.

Nothing of what was said depends on either. On SQLite no position can be changed unnoticed, as they
have no gaps. On PostgreSQL the row says that it was written again; who edits the file of the
database itself can move an event between its neighbours unnoticed. A tail that is cut off together
with its head row is told by a signed checkpoint alone (tests of actors/audit/signing/anchoring.py).
"""


class World:
    """A log open to edits, each of which is undone."""

    def __init__(self, connection: sa.Connection) -> None:
        self.raw = RawRows(connection)
        self._connection = connection
        self._cursor = connection.connection.cursor()
        self._errors = connection.dialect.loaded_dbapi.Error  # type: ignore[union-attr]

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> None:
        self._cursor.execute(
            statement if self.raw.is_sqlite else statement.replace("?", "%s"), parameters
        )

    @contextlib.contextmanager
    def edited(self, edit: Edit) -> Iterator[bool]:
        """Carry out an edit for a while; False: the database does not let it stand."""
        self.execute("SAVEPOINT edit")
        try:
            for statement, parameters in edit.statements:
                self.execute(statement, parameters)
            done = self._cursor.rowcount != 0
        except (self._errors, OverflowError):
            done = False
            self.execute("ROLLBACK TO edit")
        try:
            yield done
        finally:
            self.execute("ROLLBACK TO edit")
            self.execute("RELEASE edit")

    def named(self, edit: Edit) -> set[tuple[int, int]]:
        """Return what is named of the streams that an edit is about, or of all together."""
        found: set[tuple[int, int]] = set()
        for row in {row for row, _seq in edit.named}:
            stream = self.raw.stream_of_row(row)
            if stream is not None:
                report = verify_row(self.raw, stream, checked_by(self.raw))
                found |= {(row, each.seq) for each in report.findings}
        if edit.of_place:
            row_of = {each.stream_id: each.row for each in self.raw.streams(-(2**63))}
            for stray in strays(self.raw):
                row_name = stray.stream.removeprefix("row ")
                found.add((row_of.get(stray.stream) or int(row_name), stray.seq))
        return found


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sa.URL]:
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("edits")
        yield make_database(folder / "log.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as lent:
            yield lent


@pytest.fixture(scope="module")
def world(url: sa.URL) -> Iterator[World]:
    log = SqlEventLog(write_engine(url), read_engine(url))
    fill(log)
    log.close()
    with write_engine(url).connect() as connection:
        opened = World(connection)
        if opened.raw.is_sqlite:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("BEGIN")
            for (name,) in opened.raw.all("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
                opened.execute(f"DROP TRIGGER {name}")
        else:
            opened.execute("SET session_replication_role = replica")
        yield opened
    connection.engine.dispose()


def test_an_untouched_log_is_sound(world: World) -> None:
    report = verify_all(world.raw, here(world.raw))
    assert report.damage == []
    ((count,),) = world.raw.all("SELECT count(*) FROM events")
    assert report.events == count
    assert report.erased == 3


def test_every_edit_is_named(world: World) -> None:
    edits, missed, refused = 0, [], 0
    for edit in Editor(world.raw, EACH).edits():
        with world.edited(edit) as done:
            if not done:
                refused += 1
                continue
            edits += 1
            found = world.named(edit)
            if not found & edit.named:
                missed.append((edit.what, edit.named, found))
    assert missed == []
    assert edits >= EDITS_LEAST
    assert refused < edits / 4


@pytest.mark.parametrize("what", NOT_FOUND)
def test_what_no_event_says_can_be_changed_unnoticed(world: World, what: str) -> None:
    with world.edited(Edit(what, [(NOT_FOUND[what], ())], set())) as done:
        assert done
        assert verify_all(world.raw, here(world.raw)).damage == []
