"""Whether a log is what it must be after a fault, and whether it is what its clients saw."""

import dataclasses
import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import sqlalchemy as sa

from actors.feed import Committed
from actors.replay import STREAM_PREFIX, decode, state_at
from actors.session import events as e
from actors.session.evolve import evolve
from actors.session.state import ModelRef, SessionState
from persistence import chain
from persistence.engine import parse_url, read_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.records import Head, StoredEvent
from persistence.schema import streams
from tests.acceptance.gateway import DEADLINE_S, Frame
from web.sse import Frames
from web.views import digest_of

RUN_ENDS = (e.RunCompleted, e.RunFailed, e.RunAborted, e.RunInterrupted)
DEMO = ModelRef("demo", "echo")

Said = e.PromptQueued | e.SteeringReceived


class Violation(AssertionError):
    """An invariant does not hold; the message begins with its name."""


@dataclasses.dataclass(frozen=True)
class Acknowledged:
    """A prompt or steering that was answered with 2xx, by its id, its key, or both."""

    session: str
    prompt_id: str = ""
    key: str = ""


@dataclasses.dataclass
class ReaderSeen:
    """What one reader of a session got, over all its connections, in the order of its arrival."""

    session: str
    name: str
    frames: list[Frame] = dataclasses.field(default_factory=list)

    @property
    def last_id(self) -> int | None:
        """Return what to resume after; None before the first frame."""
        return self.frames[-1].id if self.frames else None

    def take(self, frame: Frame) -> None:
        """Take note of a frame that came whole, a hello as well."""
        self.frames.append(frame)


class Seen:
    """What clients saw; any thread may tell it. A reader's part belongs to one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acknowledgements: list[Acknowledged] = []
        self.unanswered: list[tuple[str, str]] = []
        self.readers: list[ReaderSeen] = []

    def acknowledged(self, session: str, prompt_id: str = "", key: str = "") -> None:
        """Take note of a prompt that was answered with 2xx: by its id, its key, or both."""
        assert prompt_id or key
        with self._lock:
            self.acknowledgements.append(Acknowledged(session, prompt_id, key))

    def unacknowledged(self, session: str, key: str) -> None:
        """Take note of a prompt with a key that may be in the log: nobody said so."""
        with self._lock:
            self.unanswered.append((session, key))

    def reader(self, session: str, name: str = "") -> ReaderSeen:
        """Return room for what a new reader gets."""
        with self._lock:
            made = ReaderSeen(session, name or f"reader {len(self.readers)}")
            self.readers.append(made)
            return made

    @property
    def sessions(self) -> set[str]:
        """Return the sessions that were acknowledged or read."""
        read = {each.session for each in self.readers if each.frames}
        return read | {each.session for each in self.acknowledgements}


def check(
    url: str | sa.URL,
    seen: Seen | None = None,
    *,
    gateways: Sequence[str] = (),
    token: str = "",
    settled: bool = True,
    model: ModelRef = DEMO,
) -> None:
    """Read the log at ``url`` and check it, by itself and against what clients saw.

    ``gateways`` are the addresses of those that serve it now: each must show of every session the
    state that the log folds to. ``settled`` says that all work is done: no run is open, every
    prompt has run or was cancelled. ``model`` is the default one, which frames name. Raises
    Violation, or CorruptLogError where the chain breaks.
    """
    seen = seen or Seen()
    log, names = _opened(url)
    try:
        for name in names:
            _check_stream(log, name, seen, settled=settled, model=model)
            if name.startswith(STREAM_PREFIX):
                for gateway in gateways:
                    _check_digest(log, name, gateway, token)
    finally:
        log.close()
    for session in seen.sessions:
        _require(STREAM_PREFIX + session in names, "I1", session, "there is no such stream")


def events_of(url: str | sa.URL, session: str) -> list[e.Event]:
    """Return a session's whole log as events."""
    name = STREAM_PREFIX + session
    log, _names = _opened(url)
    try:
        head = log.head(name)
        return [] if head is None else [decode(name, each) for each in log.read(head)]
    finally:
        log.close()


def _opened(url: str | sa.URL) -> tuple[SqlEventLog, list[str]]:
    parsed = parse_url(url) if isinstance(url, str) else url
    reader = read_engine(parsed)
    with reader.connect() as connection:
        names = list(connection.scalars(sa.select(streams.c.stream_id)))
    return SqlEventLog(read_engine(parsed), reader), names


def _require(holds: object, invariant: str, name: str, problem: str) -> None:
    if not holds:
        raise Violation(f"{invariant}: {name}: {problem}")


def _check_stream(log: EventLog, name: str, seen: Seen, *, settled: bool, model: ModelRef) -> None:
    head = log.head(name)
    assert head is not None
    stored = list(log.read(head, before=head.version + 1))
    _check_places(head, stored)
    if not name.startswith(STREAM_PREFIX):
        return
    session = name.removeprefix(STREAM_PREFIX)
    decoded = [decode(name, each) for each in stored]
    check_runs(session, decoded, settled=settled)
    check_tools(session, decoded)
    check_prompts(session, decoded, settled=settled)
    check_seen(session, decoded, seen)
    _check_frames(session, decoded, seen, model)
    _require(state_at(log, head) == _folded(session, decoded), "I7", session, "a snapshot is wrong")


def _check_places(head: Head, stored: Sequence[StoredEvent]) -> None:
    """Check I2, I3 and I9: the seqs, the epochs, and the chain up to the head."""
    name = head.stream_id
    for seq, each in enumerate(stored, 1):
        _require(each.seq == seq, "I2", name, f"seq {each.seq} is where {seq} should be")
    _require(len(stored) == head.version, "I2", name, f"{len(stored)} events, not {head.version}")
    epoch = 0
    for each in stored:
        _require(each.epoch >= epoch, "I3", name, f"epoch {each.epoch} follows {epoch}")
        epoch = each.epoch
    _require(epoch <= head.epoch, "I3", name, f"the head's epoch {head.epoch} is before {epoch}")
    _require(
        chain.verify(name, stored) == (head.version, head.hash), "I9", name, "the head is another"
    )


def check_runs(session: str, decoded: Sequence[e.Event], *, settled: bool) -> None:
    """Check I5: runs follow one another, each with exactly one end and no tool left open."""
    running: str | None = None
    begun: set[str] = set()
    for seq, event in enumerate(decoded, 1):
        if isinstance(event, e.RunStarted):
            _require(running is None, "I5", session, f"seq {seq} starts a run beside {running}")
            _require(event.prompt_id not in begun, "I5", session, f"seq {seq} runs a prompt again")
            running = event.prompt_id
            begun.add(running)
        elif isinstance(event, RUN_ENDS):
            _require(running == event.prompt_id, "I5", session, f"seq {seq} ends what is not run")
            running = None
    _require(not (settled and running), "I5", session, f"the run {running} has no end")


def check_tools(session: str, decoded: Sequence[e.Event]) -> None:
    """Check I5: a tool that started has one result before its turn or run is over."""
    started: set[str] = set()
    completed: set[str] = set()
    for seq, event in enumerate(decoded, 1):
        if isinstance(event, e.ToolStarted):
            known = event.tool_call_id in started | completed
            _require(not known, "I5", session, f"seq {seq} runs {event.tool_call_id} again")
            started.add(event.tool_call_id)
        elif isinstance(event, e.ToolCompleted):
            known = event.tool_call_id in completed
            _require(not known, "I5", session, f"seq {seq} completes {event.tool_call_id} again")
            started.discard(event.tool_call_id)
            completed.add(event.tool_call_id)
        elif isinstance(event, (e.TurnStarted, e.TurnEnded, *RUN_ENDS)):
            _require(not started, "I5", session, f"at seq {seq} tools have no result: {started}")
            completed.clear()


def check_prompts(session: str, decoded: Sequence[e.Event], *, settled: bool) -> None:
    """Check I1 and I5: a prompt is there once, leads to one end, and its key names no other."""
    ids: set[str] = set()
    keys: set[str] = set()
    ends: Counter[str] = Counter()
    for seq, event in enumerate(decoded, 1):
        if isinstance(event, Said):
            said = said_id(event)
            _require(said not in ids, "I1", session, f"seq {seq} says {said} again")
            ids.add(said)
            key = event.idempotency_key
            _require(not key or key not in keys, "I4", session, f"seq {seq} has key {key} again")
            keys.add(key)
        elif isinstance(event, (e.PromptCancelled, *RUN_ENDS)):
            ends[event.prompt_id] += 1
        elif isinstance(event, e.SessionDeleted):
            keys.clear()
    for event in decoded:
        if isinstance(event, e.PromptQueued):
            count = ends[event.prompt_id]
            enough = count == 1 or (count == 0 and not settled)
            _require(enough, "I5", session, f"the prompt {event.prompt_id} ended {count} times")


def said_id(event: Said) -> str:
    """Return what a client knows a prompt or a steering by."""
    return event.prompt_id if isinstance(event, e.PromptQueued) else event.steering_id


def check_seen(session: str, decoded: Sequence[e.Event], seen: Seen) -> None:
    """Check I1 and I4: what was acknowledged is there once, under the key that it came with."""
    said = [event for event in decoded if isinstance(event, Said)]
    key_of = {said_id(event): event.idempotency_key for event in said}
    count_of = Counter(event.idempotency_key for event in said)
    lives = 1 + sum(isinstance(event, e.SessionDeleted) for event in decoded)
    for each in seen.acknowledgements:
        if each.session != session:
            continue
        if each.prompt_id:
            _require(each.prompt_id in key_of, "I1", session, f"{each} is lost")
            same = not each.key or key_of[each.prompt_id] == each.key
            _require(same, "I4", session, f"{each} has the key {key_of.get(each.prompt_id)}")
        elif each.key:
            _require(count_of[each.key] > 0, "I1", session, f"{each} is lost")
    for other, key in seen.unanswered:
        few = other != session or count_of[key] <= lives
        _require(few, "I4", session, f"the unanswered {key} is there {count_of[key]} times")


def _check_frames(session: str, decoded: Sequence[e.Event], seen: Seen, model: ModelRef) -> None:
    """Check I6: what each reader got, put together, is the log's slice, byte for byte."""
    readers = [each for each in seen.readers if each.session == session and each.frames]
    wanted = {frame.id for reader in readers for frame in reader.frames}
    frames, hellos = _encoded(session, decoded, wanted, model)
    for reader in readers:
        last: int | None = None
        for frame in reader.frames:
            name = f"{session}: {reader.name}"
            is_hello = frame.data["type"] == "hello"
            expected = (hellos if is_hello else frames).get(frame.id)
            _require(expected, "I6", name, f"frame {frame.id} is not in the log")
            same = expected == frame.raw.rstrip(b"\n")
            _require(same, "I6", name, f"frame {frame.id} is {frame.raw!r}, not {expected!r}")
            follows = last is None or frame.id == (last if is_hello else last + 1)
            _require(follows, "I6", name, f"frame {frame.id} follows {last}")
            last = frame.id


def _encoded(
    session: str, decoded: Sequence[e.Event], wanted: set[int | None], model: ModelRef
) -> tuple[dict[int | None, bytes], dict[int | None, bytes]]:
    """Encode the events that somebody saw, and hellos, as a gateway would have."""
    made = Frames(lambda chosen: chosen or model)
    frames: dict[int | None, bytes] = {}
    hellos: dict[int | None, bytes] = {}
    for seq, event, state in _states(session, decoded):
        if seq not in wanted:
            continue
        if event is not None:
            frames[seq] = made.frame(Committed(seq, event, state, 0)).rstrip(b"\n")
        hellos[seq] = made.hello(state).rstrip(b"\n")
    return frames, hellos


def _states(
    session: str, decoded: Sequence[e.Event]
) -> Iterator[tuple[int, e.Event | None, SessionState]]:
    """Yield the empty state, then each event with the state that it leads to."""
    state = SessionState(session)
    yield 0, None, state
    for seq, event in enumerate(decoded, 1):
        state = evolve(state, event)
        yield seq, event, state


def _folded(session: str, decoded: Sequence[e.Event]) -> SessionState:
    *_, (_seq, _event, state) = _states(session, decoded)
    return state


def _check_digest(log: EventLog, name: str, gateway: str, token: str) -> None:
    """Check I7: a gateway's state has the digest that the log folds to at the same place."""
    session = name.removeprefix(STREAM_PREFIX)
    live = _state_of(gateway, session, token)
    head = log.head(name)
    assert head is not None
    if live is None:  # deleted: then the log says so too
        _require(not state_at(log, head).exists, "I7", session, "the gateway doesn't know it")
        return
    seq, digest = live
    _require(seq <= head.version, "I6", session, f"{gateway} shows seq {seq} of {head.version}")
    stored = list(log.read(head, before=seq + 1))
    state = _folded(session, [decode(name, each) for each in stored])
    _require(digest_of(state) == digest, "I7", session, f"the state at {gateway} is another")


def _state_of(gateway: str, session: str, token: str) -> tuple[int, str] | None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    path = f"{gateway}/sessions/{quote(session, safe='')}/state?limit=1"
    request = urllib.request.Request(path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            body = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return None
            raise Violation(f"I7: {session}: {gateway} answered {error.code}") from error
    return body["seq"], body["digest"]
