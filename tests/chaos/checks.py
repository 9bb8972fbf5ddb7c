"""What must hold afterwards, read from the log alone and compared with what clients saw."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from actors.feed import Committed
from actors.models.catalog import ModelCatalog
from actors.replay import decode, stream_of
from actors.session import events as e
from actors.session.evolve import evolve
from actors.session.state import SessionState
from persistence import chain
from persistence.engine import read_engine
from persistence.event_log import SqlEventLog
from persistence.records import StoredEvent
from tests.chaos.clients import Seen
from web.settings import Settings
from web.sse import Frames

RUN_ENDS = (e.RunCompleted, e.RunFailed, e.RunAborted, e.RunInterrupted)


class LogOfAll:
    """Every session of a log, read and checked: the chain, the seqs, the epochs (I2, I3, I9)."""

    def __init__(self, url: sa.URL, sessions: Sequence[str]) -> None:
        self.stored: dict[str, list[StoredEvent]] = {}
        self.decoded: dict[str, list[e.Event]] = {}
        log = SqlEventLog(read_engine(url), read_engine(url))
        try:
            for key in sessions:
                head = log.head(stream_of(key))
                if head is None:
                    continue
                stored = list(log.read(head))
                assert [each.seq for each in stored] == list(range(1, head.version + 1)), key
                assert chain.verify(head.stream_id, stored) == (head.version, head.hash), key
                self.stored[key] = stored
                self.decoded[key] = [decode(head.stream_id, each) for each in stored]
        finally:
            log.close()


def check_runs(log: LogOfAll) -> None:
    """Check that each run, and each tool, has exactly one end (I5)."""
    for key, events in log.decoded.items():
        started = Counter(each.prompt_id for each in events if isinstance(each, e.RunStarted))
        ended = Counter(each.prompt_id for each in events if isinstance(each, RUN_ENDS))
        assert started == ended, f"{key}: {started - ended} {ended - started}"
        assert set(started.values()) <= {1}, key
        queued = {each.prompt_id for each in events if isinstance(each, e.PromptQueued)}
        assert queued == set(started), f"{key}: {queued ^ set(started)} never ran"


def check_acknowledged(log: LogOfAll, seen: Seen) -> None:
    """Check that what was acknowledged is there once, and nothing else twice (I1, I4)."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for key, events in log.decoded.items():
        for event in events:
            if isinstance(event, e.PromptQueued | e.SteeringReceived):
                found[key][event.idempotency_key] += 1
    for key, counts in found.items():
        assert set(counts.values()) <= {1}, f"{key}: {counts.most_common(3)}"
    for idempotency_key, key in seen.acknowledged.items():
        assert found[key][idempotency_key] == 1, f"{key} has lost {idempotency_key}"


def check_readers(log: LogOfAll, seen: Seen) -> int:
    """Check that each reader's frames are the log's slice, byte by byte (I6); count them."""
    frames = Frames(ModelCatalog(Settings(), {}).resolve)
    count = 0
    for key, stored in log.stored.items():
        expected = _expected(key, stored, log.decoded[key], frames.frame)
        for (read_key, _number), read in seen.frames.items():
            if read_key == key and read:
                first = read[0][0]
                ids = [seq for seq, _ in read]
                assert ids == list(range(first, first + len(ids))), f"{key}: gaps or doubles"
                assert first == 1, f"{key}: begins at {first}"
                assert [raw for _, raw in read] == expected[: len(read)], key
                count += len(read)
    return count


def _expected(
    key: str,
    stored: Sequence[StoredEvent],
    events: Sequence[e.Event],
    frame: Callable[[Committed], bytes],
) -> list[bytes]:
    state = SessionState(key)
    encoded: list[bytes] = []
    for each, event in zip(stored, events, strict=True):
        state = evolve(state, event)
        size = len(each.payload or b"")
        encoded.append(frame(Committed(each.seq, event, state, size)).removesuffix(b"\n"))
    return encoded


def takeovers_s(log: LogOfAll, deaths: Sequence[float]) -> list[float]:
    """Return how long each session with an open run had to wait after its owner's death.

    That is the time from the kill to the event by which the next owner closes the run.
    """
    waited: list[float] = []
    for key, stored in log.stored.items():
        state, previous = SessionState(key), stored[0]
        for each, event in zip(stored, log.decoded[key], strict=True):
            at, since = each.recorded_at / 1_000_000, previous.recorded_at / 1_000_000
            died = [death for death in deaths if since - 0.5 < death < at]
            if each.epoch > previous.epoch and not state.idle and died:
                waited.append(at - died[-1])
            state, previous = evolve(state, event), each
    return waited


def summary_of(waited: Sequence[float]) -> str:
    """Return the figures as a line."""
    if not waited:
        return "no takeovers"
    ordered = sorted(waited)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    return f"{len(ordered)} takeovers: p50 {p50:.2f} s, p99 {p99:.2f} s, max {ordered[-1]:.2f} s"


def keys(count: int) -> list[str]:
    """Return names for so many sessions."""
    return [f"chaos:{number}" for number in range(count)]
