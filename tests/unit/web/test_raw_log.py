"""The raw log as it is read on, a part at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from falcon.testing import TestClient

from actors.audit.exporting.lines import decode_line, encode_line
from actors.audit.watch import EVERY, LogWatch
from actors.session.codec import Codec
from actors.session.events import Request, SessionReloaded
from persistence.in_memory import InMemoryEventLog
from persistence.records import (
    Append,
    Claim,
    Cursor,
    Erasure,
    Head,
    NewEvent,
    StoredEvent,
    Summary,
)
from web.app import create_app
from web.bootstrap import Gateway
from web.raw_log import (
    PAGE_BYTES_MAX,
    SCANNED_EVENTS_MAX,
    Filter,
    LogSource,
    StreamQuery,
    StreamSource,
    lines,
    page_of,
)
from web.settings import load_settings

UNLISTED = Summary(listed=False, active=False, body=b"")
EVERYTHING = Filter()


class CountingLog(InMemoryEventLog):
    """Counts the events that were handed out."""

    handed_out = 0

    def read(self, *arguments: object, **options: object) -> Iterator[StoredEvent]:
        for event in super().read(*arguments, **options):  # type: ignore[arg-type]
            self.handed_out += 1
            yield event


def filled(count: int, payload: bytes, stream_id: str = "session:k") -> tuple[CountingLog, Head]:
    log = CountingLog()
    return log, append(log, stream_id, [NewEvent("t", 1, payload)] * count)


def append(log: InMemoryEventLog, stream_id: str, events: list[NewEvent]) -> Head:
    (head,) = log.write([Claim(stream_id, "test")])
    assert isinstance(head, Head)
    (head,) = log.write([Append(head, tuple(events), UNLISTED)])
    assert isinstance(head, Head)
    return head


def test_a_reader_that_takes_nothing_more_has_little_read_ahead() -> None:
    log, head = filled(40, b'"%b"' % (b"x" * 1_000_000))
    source = StreamSource(log, head, StreamQuery())
    watcher = LogWatch().watcher(head.row)
    taken = lines(source, EVERYTHING, watcher, limit=None, heartbeat_s=None, shared=False)
    first = next(taken)
    assert log.handed_out <= 16
    assert len(first) < 2_000_000
    for _ in range(17):
        next(taken)
    assert log.handed_out <= 18  # large events come one by one
    assert sum(1 for _ in taken) == 40 - 18


def test_lines_end_at_the_limit_and_where_the_log_ended_when_they_began() -> None:
    log, head = filled(700, b"{}")
    watcher = LogWatch().watcher()

    def seqs(query: StreamQuery, limit: int | None = None) -> list[int]:
        source = StreamSource(log, head, query)
        append(log, "session:k", [NewEvent("late", 1, b"{}")])
        taken = lines(source, EVERYTHING, watcher, limit=limit, heartbeat_s=None, shared=False)
        return [decode_line(each)[1].seq for each in b"".join(taken).splitlines()]

    assert seqs(StreamQuery()) == list(range(1, 701))
    assert seqs(StreamQuery(), 650) == list(range(1, 651))
    assert seqs(StreamQuery(after=600, before=603)) == [601, 602]
    until = log.end()
    append(log, "session:other", [NewEvent("late", 1, b"{}")])
    source = LogSource(log, Cursor(0, 0), frozenset(), until)
    taken = lines(source, EVERYTHING, watcher, limit=None, heartbeat_s=None, shared=False)
    assert len(b"".join(taken).splitlines()) == 703


def test_whoever_follows_ends_with_what_there_is_when_the_gateway_does() -> None:
    log, head = filled(3, b"{}")
    watch = LogWatch()
    watcher = watch.watcher(head.row)
    source = StreamSource(log, head, StreamQuery(follow=True))
    taken = lines(source, EVERYTHING, watcher, limit=None, heartbeat_s=60, shared=False)
    assert next(taken) == b"\n"
    assert len(next(taken).splitlines()) == 3
    append(log, "session:k", [NewEvent("last", 1, b"{}")])
    watch.close()
    assert [decode_line(each.rstrip())[1].type for each in taken] == ["last"]
    assert watch.watcher().ending


def test_whoever_is_stopped_gets_nothing_more() -> None:
    log, head = filled(3, b"{}")
    watcher = LogWatch().watcher(head.row)
    source = StreamSource(log, head, StreamQuery(follow=True))
    taken = lines(source, EVERYTHING, watcher, limit=None, heartbeat_s=60, shared=False)
    next(taken)
    watcher.stop()
    assert list(taken) == []


def test_a_write_wakes_those_only_who_follow_its_stream_or_all() -> None:
    watch = LogWatch()
    mine, other, everyone = watch.watcher(1), watch.watcher(2), watch.watcher(EVERY)
    head = Head(1, "session:k", 1, b"", 1)
    watch.written([Append(head, (), UNLISTED), Claim("session:x", "me")], [head, head], 0)
    assert [each.wait(0) for each in (mine, other, everyone)] == [True, False, True]
    watch.look(None)
    assert [each.wait(0) for each in (mine, other, everyone)] == [True] * 3
    for each in (mine, other, everyone):
        each.close()
    watch.look(None)
    assert not mine.wait(0)


def test_a_page_is_cut_where_it_would_be_large_and_says_where_to_go_on() -> None:
    log, head = filled(10, b'"%b"' % (b"x" * 1_000_000))
    page = page_of(StreamSource(log, head, StreamQuery()), EVERYTHING, None)
    assert len(page.events) == PAGE_BYTES_MAX // 1_000_000 + 1
    assert page.more
    assert page.last is not None
    rest = StreamSource(log, head, StreamQuery(after=page.last.event.seq))
    assert len(page_of(rest, EVERYTHING, None).events) + len(page.events) == 10


def test_a_page_for_which_nothing_fits_looks_at_so_many_events_only() -> None:
    log, head = filled(SCANNED_EVENTS_MAX + 600, b"{}")
    page = page_of(StreamSource(log, head, StreamQuery()), Filter(run="none"), None)
    assert (page.events, page.more) == ([], True)
    assert page.last is not None
    assert SCANNED_EVENTS_MAX <= page.last.event.seq < SCANNED_EVENTS_MAX + 500
    rest = StreamSource(log, head, StreamQuery(after=page.last.event.seq))
    assert not page_of(rest, Filter(run="none"), None).more


def test_nothing_is_left_of_a_request_when_the_payload_is_erased() -> None:
    log = InMemoryEventLog()
    request = Request("id-canary", "token-canary", "192.0.2.77", "agent-canary")
    payload = Codec().encode(SessionReloaded(at=1, request=request))
    head = append(log, "session:k", [NewEvent(SessionReloaded.wire_name, 1, payload, "token:x")])
    assert b"canary" in encode_line("session:k", next(log.read(head)))
    log.write(
        [Append(head, (NewEvent("t", 1, b"{}"),), UNLISTED, erasures=(Erasure(head.row, 1, 1),))]
    )
    line = encode_line("session:k", next(log.read(head)))
    assert b"canary" not in line
    assert b"192.0.2.77" not in line


class TestTheGateway:
    @pytest.fixture
    def gateway(self, tmp_path: Path) -> Iterator[Gateway]:
        url = f"sqlite:///{tmp_path / 'sessiond.db'}"
        gateway = Gateway(load_settings(database_url=url, audit_reads=True))
        try:
            gateway.start()
            yield gateway
        finally:
            gateway.stop(grace_s=0)

    def test_wakes_followers_by_what_it_writes(self, gateway: Gateway) -> None:
        head = gateway.log.head("session:web:main")
        assert head is not None
        watchers = [gateway.log_watch.watcher(row) for row in (head.row, EVERY)]
        client = TestClient(create_app(gateway))
        assert client.simulate_post("/sessions/web:main/reload").status_code == 200
        assert [each.wait(10) for each in watchers] == [True, True]

    def test_does_not_answer_reads_that_it_can_not_record(self, gateway: Gateway) -> None:
        client = TestClient(create_app(gateway))
        path = "/sessions/web:main/state"
        assert client.simulate_get(path).status_code == 200
        gateway.stop(grace_s=0)  # its writer takes nothing more; what is stored can be read
        assert client.simulate_get("/memory/status").status_code == 200
        for each in (
            path,
            "/sessions",
            "/sessions/web:main",
            "/sessions/web:main/history",
            "/sessions/web:main/log",
            "/log",
        ):
            refused = client.simulate_get(each)
            assert refused.status_code == 503
            assert "session_id" not in refused.text
