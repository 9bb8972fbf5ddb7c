"""A log that somebody has damaged: what is damaged is refused by name, everything else goes on."""

import contextlib
import sqlite3

import pytest

from persistence.schema import events
from tests.faults.conftest import Started
from tests.faults.world import FaultyGateway, Place, path_of, until_idle

DAMAGED_SEQ = 3
COLUMNS = [
    each.name for each in events.c if each.name not in ("position", "stream", "seq", "payload")
]


def change(gateway: FaultyGateway, statement: str) -> None:
    """Change rows behind the triggers' back, while nobody serves them."""
    path = gateway.folder / "sessiond.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _sql in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount == 1
        for _name, sql in triggers:
            connection.execute(sql)


def of(session: str) -> str:
    return f"stream = (SELECT id FROM streams WHERE stream_id = 'session:{session}')"


def flip(column: str, session: str) -> str:
    """Return a statement that flips a bit of a column, or makes something of nothing."""
    changed = (
        f"CASE typeof({column}) WHEN 'blob' THEN CAST(x'01' || substr({column}, 2) AS BLOB)"
        f" WHEN 'text' THEN char(unicode({column}) | 1, 33) || substr({column}, 2)"
        f" WHEN 'null' THEN 1 ELSE {column} + 1 END"
    )
    return f"UPDATE events SET {column} = {changed} WHERE {of(session)} AND seq = {DAMAGED_SEQ}"


def check_damage(gateway: FaultyGateway, session: str) -> None:
    """Check that the session is refused with the place of the damage, and that others go on."""
    for answer in (
        gateway.get(path_of(session, "/state")),
        gateway.post(path_of(session, "/enqueue"), {"text": "hello"}),
    ):
        assert answer.status == 500
        assert f"is damaged at seq {DAMAGED_SEQ}" in answer.body["error"], answer.body
    assert gateway.post(path_of("whole", "/messages"), {"text": "hello"}).status == 200
    assert gateway.get("/health").body["ready"] is True


def prepare(gateway: FaultyGateway, sessions: list[str]) -> None:
    for session in (*sessions, "whole"):
        assert gateway.post(path_of(session, "/messages"), {"text": "hello"}).status == 200
    until_idle(gateway, sessions)
    gateway.kill()


def test_a_damaged_session_is_refused_and_a_damaged_head_keeps_the_gateway_from_starting(
    sqlite_place: Place, started: Started
) -> None:
    gateway = started(sqlite_place.gateway())
    prepare(gateway, ["payload"])
    change(gateway, flip("payload", "payload"))
    gateway.start()
    check_damage(gateway, "payload")
    gateway.kill()
    change(gateway, "UPDATE streams SET version = version + 1 WHERE stream_id = 'session:whole'")
    with pytest.raises(AssertionError, match="does not start"):
        gateway.start()
    reason = "session:whole is damaged at seq"
    assert f"sessiond: {reason}" in gateway.log.replace("\n", " ")
    assert "the head is not the last event" in gateway.log


@pytest.mark.faults
def test_damage_to_each_column_is_refused_where_it_is(
    sqlite_place: Place, started: Started
) -> None:
    gateway = started(sqlite_place.gateway())
    prepare(gateway, COLUMNS)
    for column in COLUMNS:
        change(gateway, flip(column, column))
    gateway.start()
    for column in COLUMNS:
        check_damage(gateway, column)
