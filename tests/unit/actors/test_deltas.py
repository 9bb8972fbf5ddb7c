from collections.abc import Callable
from typing import cast

from actors.runs.deltas import DeltaGatherer
from actors.session.commands import Delta
from actors.session.events import TextDelta, ThinkingDelta
from actors.timers import Timer, Timers


class HandTimers:
    """Timers that a test turns by hand. Implements what the gatherer uses of Timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Timer]] = []

    def after(self, delay_s: float, call: Callable[[], object]) -> Timer:
        timer = Timer(call)
        self.due.append((self.now + delay_s, timer))
        return timer

    def turn(self, to: float) -> None:
        for due, timer in sorted(self.due, key=lambda each: each[0]):
            if due <= to:
                self.now = due
                self.due.remove((due, timer))
                timer.fire()
        self.now = to


class Log:
    def __init__(self) -> None:
        self.timers = HandTimers()
        self.rows: list[tuple[str, tuple[Delta, ...]]] = []
        self.waiting: list[Callable[[], None]] = []
        self.gatherer = DeltaGatherer(
            lambda deltas, done: self._take("start", deltas, done),
            lambda deltas, done: self._take("record", deltas, done),
            cast(Timers, self.timers),
            lambda: self.timers.now,
        )

    def _take(self, kind: str, deltas: tuple[Delta, ...], done: Callable[[], None]) -> None:
        self.rows.append((kind, deltas))
        self.waiting.append(done)

    def commit(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def test_the_first_delta_goes_at_once() -> None:
    log = Log()
    log.gatherer.add(TextDelta(0, "a"))
    assert log.rows == [("start", (TextDelta(0, "a"),))]


def test_deltas_gather_while_an_append_is_in_flight() -> None:
    log = Log()
    log.gatherer.add(TextDelta(0, "a"))
    log.timers.turn(1.0)
    log.gatherer.add(TextDelta(0, "b"))
    log.gatherer.add(TextDelta(0, "c"))
    assert len(log.rows) == 1
    log.commit()
    assert log.rows[1:] == [("record", (TextDelta(0, "bc"),))]


def test_deltas_gather_for_a_while_and_then_go_by_themselves() -> None:
    log = Log()
    log.gatherer.add(TextDelta(0, "a"))
    log.commit()
    log.gatherer.add(TextDelta(0, "b"))
    log.timers.turn(0.039)
    assert len(log.rows) == 1
    log.timers.turn(0.041)
    assert log.rows[1:] == [("record", (TextDelta(0, "b"),))]


def test_they_gather_longer_once_the_message_is_two_seconds_old() -> None:
    log = Log()
    log.gatherer.add(TextDelta(0, "a"))
    log.commit()
    log.timers.turn(2.0)
    log.gatherer.add(TextDelta(0, "b"))
    log.commit()
    log.gatherer.add(TextDelta(0, "c"))
    log.timers.turn(2.05)
    assert len(log.rows) == 2
    log.timers.turn(2.1)
    assert len(log.rows) == 3


def test_blocks_are_kept_apart() -> None:
    log = Log()
    log.gatherer.add(ThinkingDelta(0, "a"))
    for delta in (ThinkingDelta(0, "b"), TextDelta(1, "c"), TextDelta(1, "d"), TextDelta(2, "e")):
        log.gatherer.add(delta)
    assert log.gatherer.close() == (ThinkingDelta(0, "b"), TextDelta(1, "cd"), TextDelta(2, "e"))


def test_nothing_is_sent_after_the_close() -> None:
    log = Log()
    log.gatherer.add(TextDelta(0, "a"))
    log.gatherer.add(TextDelta(0, "b"))
    assert log.gatherer.close() == (TextDelta(0, "b"),)
    log.commit()
    log.timers.turn(9)
    assert len(log.rows) == 1


def test_a_thousand_deltas_at_a_hundred_a_second_leave_few_rows() -> None:
    log = Log()
    for number in range(1_000):
        log.timers.turn(number / 100)
        log.gatherer.add(TextDelta(0, "x"))
        log.commit()
    rest = log.gatherer.close()
    assert len(log.rows) <= 135
    texts = [delta.text for _, deltas in log.rows for delta in deltas]
    assert len("".join(texts)) + sum(len(delta.text) for delta in rest) == 1_000


def test_a_session_that_is_gone_may_acknowledge_while_it_is_told() -> None:
    log = Log()
    log.gatherer.add(TextDelta(0, "a"))
    for text in "bc":
        log.gatherer.add(TextDelta(0, text))
    gone: list[tuple[Delta, ...]] = []

    def void(_kind: str, deltas: tuple[Delta, ...], done: Callable[[], None]) -> None:
        gone.append(deltas)
        done()

    log._take = void  # type: ignore[method-assign]
    log.timers.turn(1.0)
    log.commit()  # would wait for itself for ever
    assert gone == [(TextDelta(0, "bc"),)]
