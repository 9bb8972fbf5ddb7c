import contextlib
import random
import re
import socket
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway, StartGateway
from tests.acceptance.gateway import (
    DEADLINE_S,
    HOST,
    Background,
    Frame,
    RunningGateway,
    Stream,
    check_log,
    events,
    is_idle,
    parsed,
    text_of,
    until,
    words,
)

HEARTBEAT_S = 0.2
SEED = 20_261_122
CUTS = 20
HEALTHS_MIN = 10
"""A loop that is held up answers one or two during a whole burst."""
CUT_BYTES_MAX = 1_500
SLOW = 60
"""Words of a prompt that takes about 0.6 s; the demo model takes its delay for each."""

TOOL_PROMPT = 'Look\n!think hmm, well\n!bash {"command":"pwd"}'
TOOL_ERROR = "There is no tool named 'bash'."
REPEATED = ("token", "thinking", "tool_input")
"""The types that gather: how many frames they take depends on the clock."""


@pytest.fixture(scope="module")
def gateway(worker_class: str, open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(
        worker_class=worker_class, demo_delay_ms=10, heartbeat_s=HEARTBEAT_S
    ) as opened:
        yield opened


def prompt(gateway: RunningGateway, key: str, text: str) -> None:
    answer = gateway.post(f"/sessions/{key}/messages", {"text": text})
    assert answer.status == 200, answer.body


def until_settled(stream: Stream) -> list[Frame]:
    """Read frames until nothing runs or waits; the first one says hello."""
    frames: list[Frame] = []
    for frame in stream.frames():
        frames.append(frame)
        if frame.data["type"] == "session_state" and is_settled(frame):
            break
    return frames


def is_settled(frame: Frame) -> bool:
    return is_idle(frame.data["snapshot"]) and frame.data["snapshot"]["messageCount"] > 0


def replay(gateway: RunningGateway, key: str, head: int) -> list[Frame]:
    """Read the whole log of a session in one go, without the hello."""
    frames: list[Frame] = []
    with gateway.stream(f"/sessions/{key}/events?after=0") as stream:
        for frame in stream.frames():
            frames.append(frame)
            if frame.id == head:
                break
    assert frames[0].data["type"] == "hello"
    return frames[1:]


def shape(frames: list[Frame]) -> list[tuple[object, ...]]:
    """Name the frames by what the contract orders them by, each run of deltas once."""
    named: list[tuple[object, ...]] = []
    for frame in frames:
        data = frame.data
        match data["type"]:
            case "session_state":
                name: tuple[object, ...] = (
                    "session_state",
                    data["snapshot"]["queueDepth"],
                    data["snapshot"]["processing"],
                )
            case "message_start":
                name = ("message_start", data["role"])
            case kind:
                name = (kind,)
        if not (named and name == named[-1] and name[0] in REPEATED):
            named.append(name)
    return named


def test_a_prompts_frames_come_in_the_contracts_order(gateway: RunningGateway) -> None:
    prompt(gateway, "order", "an earlier prompt")
    with gateway.stream("/sessions/order/events") as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-cache, no-transform"
        assert "x-vercel-ai-ui-message-stream" not in stream.headers
        frames = stream.frames()
        hello = next(frames)
        prompt(gateway, "order", words(SLOW))
        seen = until_settled(stream)
    assert list(hello.data) == ["type", "sessionKey", "snapshot"]
    assert hello.data["type"] == "hello"
    assert hello.data["snapshot"]["messageCount"] == 2
    assert shape(seen) == [
        ("session_state", 1, False),
        ("session_state", 0, True),
        ("turn_start",),
        ("message_start", "user"),
        ("message_start", "assistant"),
        ("token",),
        ("message_complete",),
        ("turn_end",),
        ("session_state", 0, False),
    ]
    tokens = [frame.data for frame in seen if frame.data["type"] == "token"]
    assert len(tokens) > 2
    assert "".join(each["delta"] for each in tokens) == words(SLOW)
    assert {each["contentIndex"] for each in tokens} == {0}
    complete = next(frame.data for frame in seen if frame.data["type"] == "message_complete")
    assert complete["text"] == words(SLOW)
    assert seen[-1].data["snapshot"] == gateway.snapshot("order")
    check_frames([hello, *seen], "order")


def test_thinking_and_a_tool_come_in_the_contracts_order(gateway: RunningGateway) -> None:
    prompt(gateway, "tool", TOOL_PROMPT)
    seen = replay(gateway, "tool", len(events(gateway.folder, "tool")))
    assert shape(seen) == [
        ("session_state", 0, False),
        ("session_state", 1, False),
        ("session_state", 0, True),
        ("turn_start",),
        ("message_start", "user"),
        ("message_start", "assistant"),
        ("thinking",),
        ("token",),
        ("tool_input",),
        ("message_complete",),
        ("tool_start",),
        ("tool_complete",),
        ("message_start", "toolResult"),
        ("turn_end",),
        ("turn_start",),
        ("message_start", "assistant"),
        ("token",),
        ("message_complete",),
        ("turn_end",),
        ("session_state", 0, False),
    ]
    by_type = {frame.data["type"]: frame.data for frame in seen}
    call_id = by_type["tool_start"]["toolCallId"]
    assert by_type["tool_start"] == {
        "type": "tool_start",
        "sessionKey": "tool",
        "toolCallId": call_id,
        "toolName": "bash",
        "args": {"command": "pwd"},
    }
    assert by_type["tool_complete"] == {
        "type": "tool_complete",
        "sessionKey": "tool",
        "toolCallId": call_id,
        "toolName": "bash",
        "result": {"content": [{"type": "text", "text": TOOL_ERROR}], "details": {}},
        "isError": True,
    }
    assert [f.data["text"] for f in seen if f.data["type"] == "message_complete"] == [
        "Look",
        f"The tool bash answered: {TOOL_ERROR}",
    ]
    assert by_type["thinking"]["contentIndex"] == 0
    check_frames(seen, "tool")


def test_a_failing_model_gives_an_error_frame(gateway: RunningGateway) -> None:
    assert gateway.post("/sessions/boom/messages", {"text": "!fail boom"}).status == 502
    seen = replay(gateway, "boom", len(events(gateway.folder, "boom")))
    assert [f.data["error"] for f in seen if f.data["type"] == "error"] == ["boom"]
    assert is_idle(seen[-1].data["snapshot"])
    check_frames(seen, "boom")


def test_an_abort_gives_an_aborted_frame(gateway: RunningGateway) -> None:
    with gateway.stream("/sessions/web:main/events") as stream:
        frames = stream.frames()
        assert next(frames).data["type"] == "hello"
        running = Background(partial(gateway.post, "/sessions/web:main/messages", slow_body()))
        gateway.until_answering("web:main")
        gateway.post("/sessions/web:main/abort")
        seen = until_settled(stream)
    assert running.result().status == 409
    assert shape(seen)[-4:] == [
        ("message_complete",),
        ("turn_end",),
        ("aborted",),
        ("session_state", 0, False),
    ]


def slow_body() -> dict[str, Any]:
    return {"text": words(1_000)}


def check_frames(frames: list[Frame], key: str) -> None:
    """Check what holds for every frame: an id that follows the last one, type and key."""
    for frame in frames:
        assert frame.id is not None, frame
        assert list(frame.data)[:2] == ["type", "sessionKey"]
        assert frame.data["sessionKey"] == key
    for before, after in pairwise(frames):
        assert after.id == (before.id or 0) + 1


def test_an_unknown_session_is_404_before_any_stream_begins(gateway: RunningGateway) -> None:
    answer = gateway.get("/sessions/unknown/events", Accept="text/event-stream")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body["error"] == "Session not found: unknown"


def test_last_event_id_and_after_resume_behind_the_event_that_they_name(
    gateway: RunningGateway,
) -> None:
    prompt(gateway, "resume", "some words to read again")
    head = len(events(gateway.folder, "resume"))
    everything = replay(gateway, "resume", head)
    assert [frame.id for frame in everything] == list(range(1, head + 1))

    def resumed(path: str, **headers: str) -> list[Frame]:
        with gateway.stream(f"/sessions/resume/events{path}", headers=headers) as stream:
            assert stream.status == 200
            frames = stream.frames()
            hello = next(frames)
            assert hello.data["type"] == "hello"
            prompted = [next(frames) for _ in range(head - (hello.id or 0))]
            assert (hello.id or 0) + len(prompted) == head
            return prompted

    assert resumed("?after=5") == everything[5:]
    assert resumed("", **{"Last-Event-ID": "5"}) == everything[5:]
    assert resumed("?after=0", **{"Last-Event-ID": "7"}) == everything[7:]
    assert resumed(f"?after={head}") == []
    assert resumed("") == []


def test_resuming_beyond_the_head_is_412_and_from_no_number_400(gateway: RunningGateway) -> None:
    prompt(gateway, "beyond", "hello")
    head = len(events(gateway.folder, "beyond"))
    for path, headers, status in (
        (f"?after={head + 1}", {}, 412),
        ("", {"Last-Event-ID": str(head + 1)}, 412),
        ("?after=x", {}, 400),
        ("?after=-1", {}, 400),
        ("", {"Last-Event-ID": "x"}, 400),
        ("", {"Last-Event-ID": "1e3"}, 400),
    ):
        answer = gateway.get(f"/sessions/beyond/events{path}", **headers)
        assert (answer.status, path, headers) == (status, path, headers)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.body["error"]


def test_a_silent_stream_sends_heartbeats(gateway: RunningGateway) -> None:
    prompt(gateway, "silent", "hello")
    with gateway.stream("/sessions/silent/events") as stream:
        lines = stream.lines()
        opening = [next(lines) for _ in range(6)]
        beats = [next(lines) for _ in range(6)]
        assert opening[:3] == [b"\n", b"retry: 1000\n", b"\n"]
        assert opening[3].startswith(b"id: ")
        assert opening[4].startswith(b"data: ")
        assert beats == [b": heartbeat\n", b"\n"] * 3
        prompt(gateway, "silent", "still there?")
        assert ("token",) in shape(until_settled(stream))


def test_two_readers_get_identical_bytes(gateway: RunningGateway) -> None:
    prompt(gateway, "twins", "hello")
    with (
        gateway.stream("/sessions/twins/events") as one,
        gateway.stream("/sessions/twins/events") as other,
    ):
        assert next(one.frames()).raw == next(other.frames()).raw
        prompt(gateway, "twins", TOOL_PROMPT)
        first, second = until_settled(one), until_settled(other)
    assert [frame.raw for frame in first] == [frame.raw for frame in second]
    head = len(events(gateway.folder, "twins"))
    again = replay(gateway, "twins", head)
    assert [frame.raw for frame in again[-len(first) :]] == [frame.raw for frame in first]


class CutReader:
    """Follows one session over connections that break anywhere."""

    def __init__(self, gateway: RunningGateway, key: str) -> None:
        self.frames: list[Frame] = []
        self._gateway = gateway
        self._path = f"/sessions/{key}/events"

    def read(self, size: int) -> None:
        """Read so many bytes, break off, and keep the frames that came whole."""
        received = b""
        with self._open() as stream:
            while len(received) < size:
                more = stream.read(size - len(received))
                assert more, "the stream ended by itself"
                received += more
        self._keep(received)

    def read_on(self) -> None:
        """Read until nothing runs or waits."""
        with self._open() as stream:
            self.frames += until_settled(stream)[1:]

    def _open(self) -> Stream:
        if self.frames:
            return self._gateway.stream(
                self._path, headers={"Last-Event-ID": str(self.frames[-1].id)}
            )
        return self._gateway.stream(f"{self._path}?after=0")

    def _keep(self, received: bytes) -> None:
        frames = parsed(received.splitlines(keepends=True))
        self.frames += [frame for frame in frames if frame.data["type"] != "hello"]


def test_a_reader_cut_off_anywhere_and_a_kill_in_between_lose_and_repeat_nothing(
    worker_class: str, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(worker_class=worker_class, demo_delay_ms=10)
    chooser = random.Random(SEED)
    texts = [words(300, "long"), words(60, "second"), words(60, "third")]
    for text in texts:
        with gateway.stream("/sessions/cut/chat", method="POST", body={"text": text}) as chat:
            assert chat.status == 200
    reader = CutReader(gateway, "cut")
    for _ in range(CUTS // 2):
        reader.read(chooser.randrange(1, CUT_BYTES_MAX))
    gateway.kill()
    gateway.start()
    for _ in range(CUTS // 2):
        reader.read(chooser.randrange(1, CUT_BYTES_MAX))
    reader.read_on()

    log = events(gateway.folder, "cut")
    assert [frame.id for frame in reader.frames] == list(range(1, len(log) + 1))
    assert reader.frames == replay(gateway, "cut", len(log))
    assert [frame.data["error"] for frame in reader.frames if frame.data["type"] == "error"] == [
        "The process that ran it ended."
    ]
    answers = [f.data["text"] for f in reader.frames if f.data["type"] == "message_complete"]
    assert answers[0]
    assert texts[0].startswith(answers[0])
    assert len(answers[0]) < len(texts[0])
    assert answers[1:] == texts[1:]
    history = gateway.get("/sessions/cut/history").body["messages"]
    assert [text_of(message) for message in history[1::2]] == answers
    check_log(gateway.folder, gateway)


def test_a_reader_that_never_reads_is_dropped_and_nobody_waits_for_it(
    worker_class: str, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(
        worker_class=worker_class,
        demo_delay_ms=0,
        demo_deltas=1_000,
        slow_reader_timeout_s=1,
        streams_max=2,
    )
    text = "x" * 2_000
    prompt(gateway, "flood", text)
    with contextlib.closing(socket.socket()) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stuck.settimeout(DEADLINE_S)
        stuck.connect((HOST, gateway.port))
        stuck.sendall(b"GET /sessions/flood/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        prompt(gateway, "flood", text)
        with gateway.stream("/sessions/flood/events") as second:
            assert next(second.frames()).data["type"] == "hello"
            until(lambda: "a stream" in free_slot(gateway), "the stuck reader is dropped")
        assert gateway.get("/health").status == 200
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := stuck.recv(65_536):
                received += more
    assert received.startswith(b"HTTP/1.1 200 ")
    ids = [int(each) for each in re.findall(rb"^id: (\d+)$", received, re.MULTILINE)]
    assert max(ids) < len(events(gateway.folder, "flood"))
    check_log(gateway.folder, gateway)


def test_a_burst_of_words_from_the_model_does_not_hold_up_other_requests(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(worker_class="gevent", demo_delay_ms=0, demo_deltas=60_000)
    answering = Background(partial(prompt, gateway, "burst", "x" * 100))
    answered = 0
    while answering.running:
        assert gateway.get("/health").status == 200
        answered += 1
    answering.result()
    assert answered >= HEALTHS_MIN


def free_slot(gateway: RunningGateway) -> str:
    """Ask for a stream besides the open ones; both slots are taken while one reader is stuck."""
    with gateway.stream("/sessions/flood/events") as stream:
        return "a stream" if stream.status == 200 else "refused"
