"""Sessions of other processes, followed in the log."""

import pytest

from actors.feed import FeedClosedError
from actors.loaded import LoadedSessions
from actors.replay import CODEC, stream_of
from actors.session.events import SessionCreated, SessionRenamed
from actors.upkeep import Upkeep
from persistence.in_memory import InMemoryEventLog
from persistence.records import Append, Claim, Head, NewEvent, Summary
from tests.unit.actors.world import World

SUMMARY = Summary(listed=True, active=False, body=b"{}")


def append(log: InMemoryEventLog, key: str, *events: NewEvent) -> None:
    (claimed,) = log.write([Claim(stream_of(key), "elsewhere")])
    assert isinstance(claimed, Head)
    (outcome,) = log.write([Append(claimed, events, SUMMARY)])
    assert isinstance(outcome, Head)


def event(of: SessionCreated | SessionRenamed) -> NewEvent:
    return NewEvent(of.wire_name, of.schema_version, CODEC.encode(of))


def test_a_session_that_cannot_be_read_is_given_up_and_the_others_are_followed() -> None:
    log = InMemoryEventLog()
    world = World(log)
    sessions = LoadedSessions(shared=True)
    upkeep = Upkeep(world.registry, sessions, log, lambda: world.settings)
    for key in ("damaged", "sound"):
        append(log, key, event(SessionCreated("id", 1)))
    damaged, sound = (sessions.follow(key, log).feed.reader() for key in ("damaged", "sound"))
    append(log, "damaged", NewEvent("no.such.event", 1, b"{}"))
    append(log, "sound", event(SessionRenamed("new", 2)))
    upkeep.follow(None)
    taken = sound.take()
    assert taken is not None
    assert [each.event for each in taken] == [SessionRenamed("new", 2)]
    with pytest.raises(FeedClosedError):
        damaged.take()
    assert sessions.get("damaged") is None
    world.close()
