"""An auditor's old checkpoint against a database that was changed behind everybody's back."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from actors.audit.signing.anchoring import Finding, check_tables, compare
from actors.audit.signing.events import STREAM
from persistence import chain
from persistence.engine import is_sqlite, parse_url, read_engine, write_engine
from persistence.errors import ProofError
from persistence.event_log import SqlEventLog
from persistence.merkle import grow, leaf_data, leaf_hash
from persistence.migration import ensure_schema
from persistence.tree import SqlTree
from tests.postgres.server import connected
from tests.unit.audit.signed_log import SignedLog, new_key

TABLES = ("nodes", "leaves", "events", "streams")
A = "session:a"


class Store:
    """A database with a signed log, and a way past its triggers."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._keys = [new_key()]
        self.open()
        if is_sqlite(url):
            with sqlite3.connect(url.database or "") as connection:
                names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                for (name,) in names.fetchall():
                    connection.execute(f"DROP TRIGGER {name}")

    def open(self) -> None:
        writer, reader = write_engine(self._url), read_engine(self._url)
        self.signed = SignedLog(SqlEventLog(writer, reader), SqlTree(reader), keys=self._keys)

    def close(self) -> None:
        self.signed.close()
        self.signed.log.close()

    def reopen(self) -> None:
        """What follows is by a process that knows nothing of before."""
        self.close()
        self.open()

    def sign(self) -> str:
        """Sign, and return the note that an auditor keeps."""
        assert self.signed.signer.sign_now() is not None
        latest = self.signed.signer.latest()
        assert latest is not None
        return latest.note

    def execute(self, *statements: str) -> list[Any]:
        """Carry out statements past triggers and foreign keys; return what the last one finds."""
        if is_sqlite(self._url):
            with sqlite3.connect(self._url.database or "") as connection:
                cursors = [connection.execute(each) for each in statements]
                return cursors[-1].fetchall()
        with connected(self._url) as connection:
            connection.execute("SET session_replication_role = replica")
            found = [connection.execute(each) for each in statements]  # type: ignore[call-overload]
            return found[-1].fetchall() if found[-1].description else []

    def blob(self, content: bytes) -> str:
        """Return bytes as the database reads them in a statement."""
        digits = content.hex()
        return f"x'{digits}'" if is_sqlite(self._url) else f"'\\x{digits}'::bytea"

    def save(self) -> None:
        self.execute(*[f"CREATE TABLE saved_{each} AS SELECT * FROM {each}" for each in TABLES])

    def restore(self) -> None:
        for each in TABLES:
            self.execute(f"DELETE FROM {each}")
        for each in reversed(TABLES):
            self.execute(f"INSERT INTO {each} SELECT * FROM saved_{each}")
        self.execute(*[f"DROP TABLE saved_{each}" for each in TABLES])

    def row(self, stream_id: str) -> int:
        head = self.signed.log.head(stream_id)
        assert head is not None
        return head.row

    def cut(self, stream_id: str, version: int) -> None:
        """Cut a stream off after a version, so that nothing in the database tells."""
        row = self.row(stream_id)
        self.execute(
            f"DELETE FROM events WHERE stream = {row} AND seq > {version}",
            f"UPDATE streams SET version = {version}, hash ="
            f" (SELECT hash FROM events WHERE stream = {row} AND seq = {version}) WHERE id = {row}",
        )

    def compare(self, note: str) -> list[tuple[str, int]]:
        found = compare(self.signed.log, self.signed.tree, note, self.signed.public_keys)
        return [(each.stream, each.seq) for each in found]

    def findings(self, note: str) -> list[Finding]:
        return compare(self.signed.log, self.signed.tree, note, self.signed.public_keys)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the newest schema and nothing in it."""
    path = tmp_path_factory.mktemp("empty") / "log.db"
    engine = write_engine(parse_url(f"sqlite:///{path}"))
    ensure_schema(engine)
    engine.dispose()
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, empty: Path) -> Iterator[Store]:
    url: sa.URL
    if request.param == "sqlite":
        url = parse_url(f"sqlite:///{shutil.copy(empty, tmp_path)}")
    else:
        url = request.getfixturevalue("postgres_url")
    opened = Store(url)
    yield opened
    opened.close()


@pytest.fixture
def notes(store: Store) -> list[str]:
    """Three checkpoints: session:a has ended at 3, 5 and 5, session:b at 1 in all of them."""
    store.signed.append(A, 3)
    store.signed.append("session:b")
    first = store.sign()
    store.signed.append(A, 2)
    second = store.sign()
    store.signed.append("session:c")
    return [first, second, store.sign()]


def test_a_log_that_only_went_on_agrees_with_every_checkpoint(
    store: Store, notes: list[str]
) -> None:
    store.signed.append(A)
    for note in notes:
        assert store.compare(note) == []
    assert check_tables(store.signed.log, store.signed.tree) == []


def test_a_tail_that_was_cut_off_is_found(store: Store, notes: list[str]) -> None:
    store.cut(A, 4)
    assert store.compare(notes[0]) == []  # it had ended before that
    assert store.compare(notes[1]) == [(A, 5)]
    assert store.compare(notes[2]) == [(A, 5)]
    (finding,) = store.findings(notes[2])
    assert finding.problem == "cut off: a checkpoint has seq 5, the stream ends at 4"


def test_a_tail_that_was_replaced_is_found_at_the_first_checkpoint_that_tells(
    store: Store, notes: list[str]
) -> None:
    store.cut(A, 4)
    store.reopen()
    head = store.signed.append(A, 7)
    chain.verify(A, store.signed.log.read(head))  # by itself the stream is sound
    assert store.compare(notes[0]) == []
    assert store.compare(notes[2]) == [(A, 5)]


def test_a_stream_that_was_dropped_is_found(store: Store, notes: list[str]) -> None:
    row = store.row("session:b")
    store.execute(
        f"DELETE FROM events WHERE stream = {row}",
        f"DELETE FROM leaves WHERE stream = {row}",
        f"DELETE FROM streams WHERE id = {row}",
    )
    for note in notes:
        assert store.compare(note) == [("session:b", 1)]


def test_streams_that_were_changed_are_each_named(store: Store, notes: list[str]) -> None:
    store.cut(A, 1)
    row = store.row("session:b")
    store.execute(f"UPDATE events SET hash = {store.blob(bytes(32))} WHERE stream = {row}")
    assert sorted(store.compare(notes[2])) == [(A, 2), ("session:b", 1)]


def test_an_old_copy_of_the_database_is_found_to_be_too_short(
    store: Store, notes: list[str]
) -> None:
    store.save()
    store.signed.append(A)
    newest = store.sign()
    store.restore()
    store.reopen()
    for note in notes:
        assert store.compare(note) == []
    (finding,) = store.findings(newest)
    assert (finding.stream, finding.seq) == (STREAM, 4)
    assert "cut off" in finding.problem


def test_an_old_copy_that_went_on_otherwise_is_found_to_be_forked(
    store: Store, notes: list[str]
) -> None:
    store.save()
    store.signed.append(A)
    there = store.sign()
    store.restore()
    store.reopen()
    store.signed.append("session:b", 2)
    here = store.sign()  # as many leaves as the other one
    assert store.compare(here) == []
    (finding,) = store.findings(there)
    assert (finding.stream, finding.seq) == (STREAM, 4)
    assert "forked" in finding.problem
    store.signed.append(A)
    store.sign()
    assert store.compare(there) == [(STREAM, 4)]


def test_a_history_whose_sizes_are_others_is_found(store: Store, notes: list[str]) -> None:
    store.save()
    store.signed.append(A)
    there = store.sign()
    store.restore()
    store.reopen()
    for name in ("session:d", "session:e"):
        store.signed.append(name)
    store.sign()
    (finding,) = store.findings(there)
    assert (finding.stream, finding.seq) == (STREAM, 4)
    assert "no checkpoint was signed at size" in finding.problem


def test_a_stream_that_was_rewritten_with_the_tree_is_still_found(
    store: Store, notes: list[str]
) -> None:
    """Whoever owns the database but not the key can't make the signed roots fit."""
    store.cut(A, 4)
    store.reopen()
    store.signed.append(A)
    _forge_nodes(store)
    (finding,) = store.findings(notes[2])
    assert finding == Finding(STREAM, 2, f"one of these was rewritten since: {A}, {STREAM}")


def test_damage_to_the_trees_tables_alone_is_told_apart(store: Store, notes: list[str]) -> None:
    store.execute(f"UPDATE nodes SET hash = {store.blob(bytes(32))} WHERE level = 0 AND number = 1")
    assert store.compare(notes[2]) == []  # every stream is what it was
    assert check_tables(store.signed.log, store.signed.tree) != []
    store.execute("DELETE FROM nodes", "DELETE FROM leaves")
    assert store.compare(notes[2]) == []
    assert check_tables(store.signed.log, store.signed.tree) != []
    store.reopen()
    store.signed.signer.rebuild()
    assert check_tables(store.signed.log, store.signed.tree) == []


def test_a_leaf_more_or_a_changed_one_is_found_in_the_tables(
    store: Store, notes: list[str]
) -> None:
    count, _nodes = store.signed.tree.counts()
    store.execute(f"INSERT INTO leaves (number, stream, version) VALUES ({count}, 1, 1)")
    (finding,) = check_tables(store.signed.log, store.signed.tree)
    assert "no checkpoint names" in finding.problem
    store.execute(f"DELETE FROM leaves WHERE number = {count}", "UPDATE leaves SET version = 9")
    (finding,) = check_tables(store.signed.log, store.signed.tree)
    assert "the leaves from 0 on" in finding.problem


def test_a_damaged_stream_of_checkpoints_is_named(store: Store, notes: list[str]) -> None:
    row = store.row(STREAM)
    store.execute(f"DELETE FROM events WHERE stream = {row} AND seq = 2")
    assert store.compare(notes[0]) == []
    assert store.compare(notes[2]) == [(STREAM, 2)]


def test_a_checkpoint_that_is_not_the_logs_says_nothing_about_it(
    store: Store, notes: list[str]
) -> None:
    origin, size, *rest = notes[1].split("\n")
    with pytest.raises(ProofError, match="not one of this text"):
        store.compare("\n".join([origin, str(int(size) + 1), *rest]))
    with pytest.raises(ProofError, match="not signed by any"):
        compare(store.signed.log, store.signed.tree, notes[1], [new_key().named("other")])


def _forge_nodes(store: Store) -> None:
    """Make the tree's nodes what they would be had everything always been as it is now."""
    tree = store.signed.tree
    names = dict(store.execute("SELECT id, stream_id FROM streams"))
    count, _nodes = tree.counts()
    leaves = tree.leaves(0, count)
    found = tree.found([(names[each.row], each.version) for each in leaves])
    hashes = [
        leaf_hash(leaf_data(names[each.row], each.version, there.hash or b""))
        for each, there in zip(leaves, found, strict=True)
    ]
    for node in grow(0, hashes, lambda _places: {}).nodes:
        store.execute(
            f"UPDATE nodes SET hash = {store.blob(node.hash)}"
            f" WHERE level = {node.level} AND number = {node.index}"
        )


def test_processes_that_sign_one_database_at_once_make_one_tree(
    postgres_url: sa.URL,
) -> None:
    stores = [Store(postgres_url), Store(postgres_url)]
    stores[1].signed.keys = stores[0].signed.keys
    for count in range(1, 6):
        for name in (A, "session:b"):
            stores[0].signed.append(name, count)
        threads = [threading.Thread(target=each.signed.signer.sign_now) for each in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [each.signed.signer.sign_now() for each in stores] == [None, None]
    assert check_tables(stores[0].signed.log, stores[0].signed.tree) == []
    latest = stores[1].signed.signer.latest()
    assert latest is not None
    assert stores[0].compare(latest.note) == []
    assert len(stores[0].signed.public_keys) == 1
    for store in stores:
        store.close()
