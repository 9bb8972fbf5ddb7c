import threading

import pytest

from actors.feed import Committed, Feed, FeedClosedError
from actors.session import events as e
from actors.session.evolve import evolve
from actors.session.state import SessionState

EVENT = e.TextDelta(0, "x")


def committed(count: int, after: int = 0) -> list[Committed]:
    state = SessionState("k", version=after)
    entries = []
    for _ in range(count):
        state = evolve(state, EVENT)
        entries.append(Committed(state.version, EVENT, state))
    return entries


def test_a_reader_takes_everything_new_in_order_and_once() -> None:
    feed = Feed()
    reader = feed.reader()
    feed.publish(committed(2))
    feed.publish(committed(1, after=2))
    assert [each.seq for each in reader.take() or ()] == [1, 2, 3]
    assert reader.take() == ()


def test_a_reader_that_falls_behind_the_window_is_told_to_read_the_log() -> None:
    feed = Feed(window=3)
    slow, quick = feed.reader(), feed.reader()
    feed.publish(committed(3))
    assert [each.seq for each in quick.take() or ()] == [1, 2, 3]
    feed.publish(committed(2, after=3))
    assert slow.take() is None
    assert [each.seq for each in quick.take() or ()] == [4, 5]


def test_a_reader_can_begin_in_the_past() -> None:
    feed = Feed()
    feed.install(SessionState("k", version=7))
    assert feed.reader(after=3).take() is None
    assert feed.reader().take() == ()


def test_what_nobody_reads_is_not_kept() -> None:
    feed = Feed()
    feed.publish(committed(2))
    assert not feed.entries
    reader = feed.reader()
    feed.publish(committed(1, after=2))
    assert len(feed.entries) == 1
    reader.close()
    assert not feed.entries
    assert feed.seq == 3


def test_a_sleeping_reader_is_woken_by_an_event() -> None:
    feed = Feed()
    reader = feed.reader()
    woken: list[bool] = []
    sleeper = threading.Thread(target=lambda: woken.append(reader.wait(10)))
    sleeper.start()
    feed.publish(committed(1))
    sleeper.join()
    assert woken == [True]
    assert reader.take()


def test_a_reader_does_not_sleep_over_what_is_there() -> None:
    feed = Feed()
    reader = feed.reader()
    feed.publish(committed(1))
    assert reader.wait(0)


def test_sleep_ends_when_its_time_is_over() -> None:
    assert not Feed().reader().wait(0.001)


def test_readers_get_the_rest_before_they_learn_of_the_end() -> None:
    feed = Feed()
    reader = feed.reader()
    feed.publish(committed(1))
    feed.close()
    assert reader.wait(0)
    assert reader.take()
    assert reader.wait(0)
    with pytest.raises(FeedClosedError):
        reader.take()
