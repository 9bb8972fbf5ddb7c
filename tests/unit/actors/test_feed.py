import threading

import pytest

from actors.feed import Committed, Feed, FeedClosedError
from actors.session import events as e
from actors.session.evolve import evolve
from actors.session.state import SessionState

EVENT = e.TextDelta(0, "x")


def publish(feed: Feed, count: int, *, size: int = 1) -> SessionState:
    state = feed.state or SessionState("k")
    entries = []
    for _ in range(count):
        state = evolve(state, EVENT)
        entries.append(Committed(state.version, EVENT, state, size))
    feed.publish(entries, state)
    return state


def test_a_reader_takes_everything_new_in_order_and_once() -> None:
    feed = Feed()
    reader = feed.reader()
    publish(feed, 2)
    publish(feed, 1)
    assert [each.seq for each in reader.take() or ()] == [1, 2, 3]
    assert reader.take() == ()


def test_a_reader_that_falls_behind_the_window_is_told_to_read_the_log() -> None:
    feed = Feed(window=3)
    slow, quick = feed.reader(), feed.reader()
    publish(feed, 3)
    assert [each.seq for each in quick.take() or ()] == [1, 2, 3]
    publish(feed, 2)
    assert slow.take() is None
    assert [each.seq for each in quick.take() or ()] == [4, 5]


def test_the_window_is_bounded_in_bytes_too() -> None:
    feed = Feed(window=100, window_bytes_max=10)
    slow = feed.reader()
    publish(feed, 3, size=4)
    assert [each.seq for each in feed.entries] == [1, 2, 3]  # the newest append stays whole
    publish(feed, 1, size=4)
    assert [each.seq for each in feed.entries] == [3, 4]
    publish(feed, 1, size=400)
    publish(feed, 1, size=1)
    assert [each.seq for each in feed.entries] == [6]
    assert slow.take() is None


def test_what_is_kept_of_a_delta_is_not_all_the_text_before_it() -> None:
    feed = Feed()
    reader = feed.reader()
    state = publish(feed, 3)
    assert feed.state == state
    assert [block.text for block in state.draft] == ["xxx"]
    assert [each.state.draft for each in reader.take() or ()] == [(), (), ()]


def test_a_reader_can_begin_in_the_past() -> None:
    feed = Feed()
    feed.install(SessionState("k", version=7), 1)
    assert feed.reader(after=3).take() is None
    assert feed.reader().take() == ()


def test_what_nobody_reads_is_not_kept() -> None:
    feed = Feed()
    publish(feed, 2)
    assert not feed.entries
    reader = feed.reader()
    publish(feed, 1)
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
    publish(feed, 1)
    sleeper.join()
    assert woken == [True]
    assert reader.take()


def test_a_reader_does_not_sleep_over_what_is_there() -> None:
    feed = Feed()
    reader = feed.reader()
    publish(feed, 1)
    assert reader.wait(0)


def test_sleep_ends_when_its_time_is_over() -> None:
    assert not Feed().reader().wait(0.001)


def test_readers_get_the_rest_before_they_learn_of_the_end() -> None:
    feed = Feed()
    reader = feed.reader()
    publish(feed, 1)
    feed.close()
    assert reader.wait(0)
    assert reader.take()
    assert reader.wait(0)
    with pytest.raises(FeedClosedError):
        reader.take()
