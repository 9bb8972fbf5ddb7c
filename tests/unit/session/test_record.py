"""What happens to a session's record: erased events, holds, where an event came from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.erasures import erasures_of
from actors.replay import CODEC, decode
from actors.session import events as e
from actors.session.codec import UnknownEventError
from actors.session.evolve import evolve, fold
from actors.session.messages import Text, UserMessage
from actors.session.record_events import SessionHeld, SessionReleased, StreamErased
from actors.session.state import SessionState
from persistence.records import Erasure, Head, StoredEvent
from tests.properties.strategies import events, states

NEW = SessionState("k")
CREATED = e.SessionCreated("s1", 5)
SAID = e.MessageCompleted(UserMessage((Text("hello"),), 6))
REQUEST = e.Request("r1", "t1", "192.0.2.1", "curl/8")


def stored(event: e.Event, payload: bytes | None) -> StoredEvent:
    kind, version = event.wire_name, event.schema_version
    return StoredEvent(1, 1, kind, version, 1, None, None, None, payload, None, b"", b"h" * 32)


def erasure(state: SessionState | None, *ranges: tuple[int, int]) -> StreamErased:
    return StreamErased("receipt", "asked to", ranges, 9, state)


# Erased events


@given(events)
def test_an_event_whose_payload_is_gone_is_known_by_its_type_only(event: e.Event) -> None:
    assert decode("s", stored(event, CODEC.encode(event))) == event
    assert decode("s", stored(event, None)) == e.Erased(type=event.wire_name)


@given(states, st.lists(events, max_size=3))
def test_an_erased_event_counts_and_changes_nothing_else(
    state: SessionState, history: list[e.Event]
) -> None:
    after = fold(state, [e.Erased(type=each.wire_name) for each in history])
    assert after == replace(state, version=state.version + len(history))


def test_an_erased_event_is_never_read_as_an_event() -> None:
    with pytest.raises(UnknownEventError):
        CODEC.decode("", 1, b'{"type":"text.delta"}')


# stream.erased


@given(st.lists(events, max_size=4), st.lists(events, max_size=4), states)
def test_what_is_left_follows_from_the_erasure_whatever_was_erased_before_it(
    before: list[e.Event], after: list[e.Event], left: SessionState
) -> None:
    event = erasure(left, (1, max(len(before), 1)))
    erased = [e.Erased(type=each.wire_name) for each in before]
    whole = fold(NEW, [*before, event, *after])
    assert fold(NEW, [*erased, event, *after]) == whole
    assert fold(NEW, [*before, event]) == replace(left, version=len(before) + 1)


def test_what_is_left_comes_back_from_the_log() -> None:
    state = replace(fold(NEW, [CREATED, SAID]), preview=None)
    event = erasure(state, (2, 2))
    assert CODEC.decode("stream.erased", 1, CODEC.encode(event)) == event
    assert evolve(fold(NEW, [CREATED, e.Erased(type="message.completed")]), event) == replace(
        state, version=3
    )


def test_an_erasure_without_a_state_leaves_the_one_there_is() -> None:
    state = fold(NEW, [CREATED, SAID])
    assert evolve(state, erasure(None, (1, 1))) == replace(state, version=3)


def test_the_ranges_of_an_erasure_are_what_the_log_erases() -> None:
    head = Head(7, "session:k", 9, b"", 1)
    said = (CREATED, erasure(None, (1, 2), (4, 4)), SAID, erasure(None, (6, 7)))
    assert erasures_of(head, said) == (Erasure(7, 1, 2), Erasure(7, 4, 4), Erasure(7, 6, 7))
    assert erasures_of(head, (CREATED, SAID)) == ()


# Holds


@pytest.mark.parametrize(
    "event", [SAID, e.SessionReset("s2", 7), e.SessionDeleted(7), e.SessionCreated("s2", 7)]
)
def test_a_hold_stays_whatever_becomes_of_the_session(event: e.Event) -> None:
    state = fold(NEW, [CREATED, SessionHeld("a case", 6)])
    assert state.hold == "a case"
    assert evolve(state, event).hold == "a case"
    assert fold(state, [event, SessionReleased(8)]).hold == ""


# Requests


@given(events)
def test_an_event_is_the_same_but_for_the_request_that_it_came_with(event: e.Event) -> None:
    (given_to,) = e.attributed((event,), REQUEST)
    assert given_to == replace(event, request=REQUEST)
    assert CODEC.decode(event.wire_name, 1, CODEC.encode(given_to)) == given_to
    assert e.attributed((event,), None) == (event,)
    untraced = replace(event, request=None)  # a prompt's trace goes with it to its run
    assert evolve(NEW, given_to) == evolve(NEW, untraced)


def test_an_event_without_a_request_takes_no_place_for_it() -> None:
    assert CODEC.encode(e.SessionDeleted(7)) == b'{"at":7}'
    assert b'"request":{"id":"r1"}' in CODEC.encode(e.SessionDeleted(7, request=e.Request("r1")))
