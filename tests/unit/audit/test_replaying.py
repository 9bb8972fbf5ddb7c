import threading
from collections.abc import Sequence

import pytest

from actors.audit.travel.replaying import Pace, Playback, SpeedError, speed_of
from actors.feed import Committed, FeedClosedError
from actors.session import events as e
from actors.session import record_events as r
from actors.session.messages import AssistantMessage, Text, Thinking, UserMessage
from actors.session.state import SessionState
from persistence.in_memory import InMemoryEventLog
from tests.unit.audit.files import appended
from web.cli.screen import Screen

IDLE_S = 15.0


class Clock:
    """A clock that goes on only while somebody waits."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def time(self) -> float:
        return self.now_s

    def wait(self, _stopped: threading.Event, seconds: float) -> None:
        assert 0 < seconds <= 0.25
        self.now_s += seconds


def playback(clock: Clock, at_s: Sequence[float], pace: Pace, closing: bool = False) -> Playback:
    """Return what plays events that were recorded at these times."""
    now = [0.0]
    log = InMemoryEventLog(clock_us=lambda: round(now[0] * 1e6))
    for seq, now[0] in enumerate(at_s, 1):
        head = appended(log, "k", [e.SessionRenamed(str(seq), seq)])
    return Playback(
        log.read(head),
        SessionState("k"),
        pace,
        closing=lambda: closing,
        clock=clock.time,
        wait=clock.wait,
    )


def shown(clock: Clock, played: Playback) -> list[tuple[float, list[int]]]:
    """Return when which events came; heartbeats have none."""
    return [
        (round(clock.now_s - 100, 3), [each.committed.seq for each in batch])
        for batch in played.batches(IDLE_S)
    ]


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (Pace(1.0), [(0, [1]), (1, [2]), (1.5, [3, 4]), (6.5, [5])]),
        (Pace(4.0), [(0, [1]), (0.25, [2]), (0.375, [3, 4]), (5.375, [5])]),
        (Pace(0.1, gap_max_s=7), [(0, [1]), (7, [2]), (12, [3, 4]), (19, [5])]),
        (Pace(None), [(0, [1, 2, 3, 4, 5])]),
    ],
)
def test_events_come_when_they_did_by_the_speed_and_no_gap_is_longer_than_the_most(
    pace: Pace, expected: list[tuple[float, list[int]]]
) -> None:
    clock = Clock()
    assert shown(clock, playback(clock, [0, 1, 1.5, 1.5, 61.5], pace)) == expected


def test_a_long_gap_has_a_heartbeat_and_a_clock_that_went_back_no_gap() -> None:
    clock = Clock()
    played = playback(clock, [50, 40, 80], Pace(1.0, gap_max_s=60))
    assert shown(clock, played) == [(0, [1, 2]), (15, []), (30, []), (40, [3])]


def test_a_playback_that_is_stopped_ends_at_once() -> None:
    clock = Clock()
    played = playback(clock, [0, 10], Pace(1.0))
    batches = played.batches(IDLE_S)
    assert len(next(batches)) == 1
    played.stop()
    with pytest.raises(FeedClosedError):
        next(batches)
    with pytest.raises(FeedClosedError):
        list(playback(clock, [0], Pace(None), closing=True).batches(IDLE_S))


def test_a_speed_is_a_number_in_bounds_or_the_most() -> None:
    assert [speed_of(each) for each in ("1", "4x", "0.1", "1000x", "max")] == [
        1,
        4,
        0.1,
        1000,
        None,
    ]
    for text in ("0", "-1", "1001", "nan", "inf", "fast", ""):
        with pytest.raises(SpeedError, match=r"from 0\.1 to 1000, or max"):
            speed_of(text)


def drawn(*events: e.Event) -> str:
    screen = Screen()
    shown = [screen.show(Committed(1, each, SessionState("k"), 1)) for each in events]
    return "".join(shown) + screen.end()


def test_the_screen_shows_what_streamed_once_and_nothing_that_commands_a_terminal() -> None:
    content = (Thinking("Hm."), Text("Hello \x1b[2Jthere"))
    text = drawn(
        e.MessageCompleted(UserMessage((Text("hi\x07"),), 1)),
        e.MessageStarted("assistant", 1),
        e.ThinkingDelta(0, "Hm."),
        e.TextDelta(1, "Hello \x1b[2J"),
        e.MessageCompleted(AssistantMessage(content, 1)),
        e.ToolStarted("c", "bash", {"command": "ls"}, 1),
        e.ToolProgressed("c", "bash", "a.txt\n", 1),
        e.ToolCompleted("c", "bash", "ok", (Text("a.txt"),), 1),
        e.ToolCompleted("d", "bash", "denied", (Text("no \u202egnorw"),), 1),
        e.RunFailed("p", "out of luck", 1),
        r.SessionForked("a", "id", 7, "", 1),
        e.Erased(type="message.completed"),
    )
    plain = "".join(text.split("\x1b[2m"))
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[36m"):
        plain = plain.replace(code, "")
    assert plain == (
        "\n> hi\ufffd\n"
        "Hm.\n"
        "Hello \ufffd[2Jthere\n"
        '* bash {"command":"ls"}\n'
        "a.txt\n"
        "denied: no \ufffdgnorw\n"
        "! run.failed out of luck\n"
        "— made of a at 7\n"
        "[erased: message.completed]\n"
    )
