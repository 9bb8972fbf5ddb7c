"""Leases and the inbox on a real PostgreSQL: who lives, who is asked, what was answered."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from persistence.engine import side_engine
from persistence.errors import StoreUnavailableError
from persistence.inbox import Inbox
from persistence.leases import Leases
from persistence.notices import Announcer, Notice, announce, decoded
from persistence.records import GENESIS_HASH, Append, Claim, Head, NewEvent, Summary
from tests.acceptance.gateway import until
from tests.postgres.server import connected

LEASE_S = 30.0
WAIT_S = 10.0
HEAD = Head(7, "session:k", 1, GENESIS_HASH, 1)

Take = Callable[..., Leases]


@pytest.fixture
def take(postgres_url: sa.URL) -> Iterator[Take]:
    with contextlib.ExitStack() as stack:

        def connect(name: str, lease_s: float = LEASE_S) -> Leases:
            leases = Leases(postgres_url, name, lease_s=lease_s)
            leases.connect()
            stack.callback(leases.drop)
            return leases

        yield connect


@pytest.fixture
def engine(postgres_url: sa.URL) -> Iterator[sa.Engine]:
    engine = side_engine(postgres_url)
    yield engine
    engine.dispose()


def names(url: sa.URL) -> list[str]:
    with connected(url) as connection:
        found = connection.execute("SELECT name FROM workers ORDER BY name").fetchall()
    return [name for (name,) in found]


def age(url: sa.URL, name: str, seconds: float) -> None:
    """Make a heartbeat older: only the database's clock counts."""
    with connected(url) as connection:
        connection.execute(
            "UPDATE workers SET renewed_at = renewed_at - %s WHERE name = %s",
            (int(seconds * 1_000_000), name),
        )


def end_connections_of_leases(url: sa.URL) -> None:
    with connected(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )


# Who lives


def test_a_lease_is_a_row_until_it_is_resigned(postgres_url: sa.URL, take: Take) -> None:
    mine, other = take("mine"), take("other")
    assert names(postgres_url) == ["mine", "other"]
    assert mine.renew()
    assert mine.reap() == []
    other.resign()
    assert names(postgres_url) == ["mine"]


def test_a_worker_whose_connection_ended_is_dead_when_that_was_seen_twice(
    postgres_url: sa.URL, take: Take
) -> None:
    mine, other = take("mine"), take("other")
    other.drop()
    until(lambda: not locks_but(postgres_url, 1), "the lock is free")
    assert mine.reap() == []
    assert mine.reap() == ["other"]
    assert names(postgres_url) == ["mine"]


def locks_but(url: sa.URL, count: int) -> bool:
    with connected(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        ).fetchone()
    assert row is not None
    return bool(row[0] != count)


def test_a_worker_that_connects_anew_in_between_lives(take: Take) -> None:
    mine, other = take("mine"), take("other")
    other.drop()
    mine.reap()
    other.connect()
    assert mine.reap() == []
    assert mine.reap() == []


def test_a_worker_that_was_not_heard_of_for_a_lease_is_dead_though_it_is_connected(
    postgres_url: sa.URL, take: Take
) -> None:
    mine, other = take("mine"), take("other")
    age(postgres_url, "other", LEASE_S - 5)
    assert mine.reap() == []
    age(postgres_url, "other", 10)
    assert mine.reap() == ["other"]
    assert not other.renew()  # it learns of it, and is there again
    assert names(postgres_url) == ["mine", "other"]
    assert other.renew()


def test_without_a_connection_everything_says_so_until_there_is_one_again(
    postgres_url: sa.URL, take: Take
) -> None:
    mine = take("mine")
    end_connections_of_leases(postgres_url)
    for call in (mine.renew, mine.reap, mine.resign, lambda: mine.wait(0)):
        with pytest.raises(StoreUnavailableError):
            call()
    mine.connect()
    assert mine.renew()


def test_resigning_lets_anybody_own_what_was_owned(postgres_url: sa.URL, take: Take) -> None:
    mine = take("mine")
    with connected(postgres_url) as connection:
        for name, owner in (("a", "mine"), ("b", "other")):
            connection.execute(
                "INSERT INTO streams (stream_id, version, hash, owner, epoch, listed, active,"
                " summary) VALUES (%s, 0, '', %s, 1, false, false, '')",
                (name, owner),
            )
        mine.resign()
        owners = connection.execute("SELECT stream_id, owner FROM streams").fetchall()
    assert dict(owners) == {"a": None, "b": "other"}


# Notices


def test_a_notice_reaches_the_others_and_not_who_sent_it(take: Take, engine: sa.Engine) -> None:
    mine, other = take("mine"), take("other")
    notice = Notice("mine", (1, 2), ("x",), ("y",), (3,), ((5, "info", "line"),))
    announce(engine, notice)
    assert other.wait(WAIT_S) == [notice]
    assert mine.wait(0) == []


def test_what_is_too_long_to_name_is_all_there_is(take: Take, engine: sa.Engine) -> None:
    other = take("other")
    announce(engine, Notice("mine", tuple(range(10_000)), ("x",)))
    assert other.wait(WAIT_S) == [Notice("mine", None, ("x",))]
    announce(engine, Notice("mine", (), claimed=tuple(range(10_000))))
    assert other.wait(WAIT_S) == [Notice("mine", None)]


@pytest.mark.parametrize("payload", ["", "{}", "[]", '{"sender": 7}', "no JSON"])
def test_what_is_no_notice_is_none(payload: str) -> None:
    assert decoded(payload) is None


def test_others_notifications_on_the_channel_do_no_harm(
    postgres_url: sa.URL, take: Take, engine: sa.Engine
) -> None:
    other = take("other")
    with connected(postgres_url) as connection:
        connection.execute("SELECT pg_notify('sessiond', 'hello')")
    announce(engine, Notice("mine", (1,)))
    found: list[Notice] = []
    until(lambda: found.extend(other.wait(0.1)) or found, "the notice is there")
    assert found == [Notice("mine", (1,))]


def test_an_announcer_tells_what_was_written_and_gathers_meanwhile(
    take: Take, engine: sa.Engine
) -> None:
    other = take("other")
    announcer = Announcer(engine, "mine")
    announcer.start()
    append = Append(HEAD, (NewEvent("t", 1, b"{}"),), Summary(False, False, b""))
    failed = StoreUnavailableError("gone")
    announcer.written([append, Claim("session:c", "mine"), append], [HEAD, HEAD, failed], 0.0)
    announcer.close()
    told: list[Notice] = []
    until(lambda: told.extend(other.wait(0.1)) or told, "the notice is there")
    assert told == [Notice("mine", (7,), claimed=(7,))]


# The inbox


def test_a_question_is_seen_by_its_owner_until_it_is_answered(
    engine: sa.Engine, take: Take
) -> None:
    asker, owner = Inbox(engine, "asker"), Inbox(engine, "owner")
    owners, askers = take("owner"), take("asker")
    first = asker.put("owner", "session:k", b"first")
    assert owners.wait(WAIT_S) == [Notice("asker", asked=("owner",))]
    second = asker.put("owner", "session:k", b"second")
    asked = owner.messages()
    assert [(each.id, each.asker, each.stream_id, each.body) for each in asked] == [
        (first, "asker", "session:k", b"first"),
        (second, "asker", "session:k", b"second"),
    ]
    assert asker.messages() == []
    assert asker.answers([first, second]) == {}
    owner.answer(asked[0], b"done")
    until(  # its own questions wake it as well, and are no notices for it
        lambda: any(each.answered == ("asker",) for each in askers.wait(WAIT_S)), "the answer"
    )
    assert asker.answers([first, second]) == {first: b"done"}
    assert [each.id for each in owner.messages()] == [second]


def test_an_answer_is_given_once(engine: sa.Engine) -> None:
    asker, owner = Inbox(engine, "asker"), Inbox(engine, "owner")
    question = asker.put("owner", "session:k", b"?")
    (message,) = owner.messages()
    owner.answer(message, b"first")
    owner.answer(message, b"second")
    assert asker.answers([question]) == {question: b"first"}


def test_a_question_can_be_withdrawn_and_old_ones_are_swept(
    postgres_url: sa.URL, engine: sa.Engine
) -> None:
    asker, owner = Inbox(engine, "asker"), Inbox(engine, "owner")
    asker.withdraw(asker.put("owner", "session:k", b"?"))
    assert owner.messages() == []
    asker.put("owner", "session:k", b"old")
    with connected(postgres_url) as connection:
        connection.execute("UPDATE inbox SET put_at = put_at - 3600000000")
    kept = asker.put("owner", "session:k", b"new")
    asker.sweep()
    assert [each.id for each in owner.messages()] == [kept]


def test_who_has_a_row_is_alive(engine: sa.Engine, take: Take) -> None:
    inbox = Inbox(engine, "mine")
    other = take("other")
    assert inbox.is_alive("other")
    other.resign()
    assert not inbox.is_alive("other")


def test_a_lease_that_waits_is_woken_from_another_thread(take: Take, engine: sa.Engine) -> None:
    other = take("other")
    woken: list[list[Notice]] = []
    thread = threading.Thread(target=lambda: woken.append(other.wait(WAIT_S)))
    thread.start()
    announce(engine, Notice("mine", (1,)))
    thread.join(WAIT_S)
    assert woken == [[Notice("mine", (1,))]]
