"""A session goes to a file and into another log, and is the same there, bit for bit."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from actors.audit.exporting.file_format import FORMATS
from actors.audit.exporting.restoring import Restorable, restorable, restore_into
from actors.audit.exporting.writing import ErasedMeanwhileError, Exported, export_lines
from actors.audit.verifying.verification import verify_stream
from actors.pi_import import parse_pi_session
from actors.replay import entry_of, state_at, stream_of
from actors.session import commands as c
from actors.session import events as e
from actors.session.codec import encode_state
from actors.session.messages import AssistantMessage, Text
from actors.session.record_events import StreamErased
from actors.session.state import STATE_VERSION
from actors.session_actor import SNAPSHOT_EVERY_EVENTS
from persistence.engine import parse_url, read_engine, write_engine
from persistence.errors import ConflictError
from persistence.event_log import EventLog, SqlEventLog
from persistence.group_commit import GroupCommit
from persistence.migration import ensure_schema
from persistence.raw_rows import RawRows
from persistence.records import Append, Erasure, Snapshot
from tests.unit.actors.world import World
from tests.unit.audit.files import AT, UNLISTED, appended, exported_file, report_of
from web.bootstrap import Gateway
from web.settings import Settings

RECORDED = Path(__file__).parents[3] / "shared/fixtures/large-session.jsonl"
KEY = "recorded"


@contextlib.contextmanager
def opened(url: sa.URL) -> Iterator[SqlEventLog]:
    writer = write_engine(url)
    ensure_schema(writer)
    log = SqlEventLog(writer, read_engine(url))
    yield log
    log.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqlEventLog]:
    with opened(parse_url(f"sqlite:///{tmp_path / 'one.db'}")) as found:
        yield found


@pytest.fixture
def recorded(log: SqlEventLog) -> SqlEventLog:
    """A log with a recorded session, which has gone on here."""
    if not RECORDED.exists():
        pytest.skip("the recorded session large-session.jsonl is not there")
    session = parse_pi_session(RECORDED.read_bytes(), at=AT)
    world = World(log)
    command = c.ImportSession(AT, "s1", "pi", session.original_id, session.recorded)
    world.registry.ask(KEY, command)
    prompted(world, "go on")
    return log


def prompted(world: World, text: str) -> None:
    watch = world.prompt(KEY, text)
    watch.until("run.completed")
    watch.close()
    world.close()


def restored(log: EventLog, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    report, found = restorable(file, ())
    assert found is not None, report.lines
    written(log, found)


def written(log: EventLog, found: Restorable) -> None:
    writer = GroupCommit(log)
    writer.start()
    try:
        restore_into(writer, found)
    finally:
        writer.close()


def state_of(log: EventLog) -> bytes:
    head = log.head(stream_of(KEY))
    assert head is not None
    return encode_state(state_at(log, head))


@pytest.mark.parametrize("form", FORMATS)
def test_a_recorded_session_is_the_same_in_another_database_and_goes_on_there(
    recorded: SqlEventLog, form: str, postgres_url: sa.URL, tmp_path: Path
) -> None:
    content = exported_file(recorded, KEY, form=form)
    with opened(postgres_url) as other:
        restored(other, tmp_path / "session", content)
        assert exported_file(other, KEY, form=form) == content
        assert state_of(other) == state_of(recorded)
        (here,), (there,) = recorded.entries(), other.entries()
        assert (here.stream_id, here.summary) == (there.stream_id, there.summary)
        head = other.head(stream_of(KEY))
        assert head is not None
        assert other.snapshot(head, STATE_VERSION) == Snapshot(
            head.version, STATE_VERSION, state_of(recorded)
        )
        early = other.snapshot(head, STATE_VERSION, at=SNAPSHOT_EVERY_EVENTS)
        assert (early is None) == (head.version < SNAPSHOT_EVERY_EVENTS)
        prompted(World(other, owner="another"), "and here")
        report = report_of(exported_file(other, KEY))
        assert report.ok, report.lines
        assert report.events > content.count(b"\n")


def test_a_session_that_is_there_stays_as_it_is(log: SqlEventLog, tmp_path: Path) -> None:
    appended(log, KEY, [e.SessionCreated(session_id="s1", at=AT)])
    file = tmp_path / "session.jsonl"
    file.write_bytes(exported_file(log, KEY))
    appended(log, KEY, [e.SessionReloaded(at=AT)])
    before = exported_file(log, KEY)
    _report, found = restorable(file, ())
    assert found is not None
    with pytest.raises(ConflictError):
        written(log, found)
    assert exported_file(log, KEY) == before


def test_what_was_erased_and_deleted_is_so_after_a_restore_too(
    log: SqlEventLog, tmp_path: Path
) -> None:
    head = appended(log, KEY, [e.SessionCreated(session_id="s1", at=AT), e.SessionDeleted(at=AT)])
    log.write([Append(head, (), UNLISTED, erasures=(Erasure(head.row, 1, 2),))])
    appended(log, KEY, [StreamErased("r1", "asked", ((1, 2),), AT)])
    with opened(parse_url(f"sqlite:///{tmp_path / 'two.db'}")) as other:
        restored(other, tmp_path / "session", exported_file(log, KEY))
        assert exported_file(other, KEY) == exported_file(log, KEY)
        assert other.entries() == []
        found = other.head(stream_of(KEY))
        assert found is not None
        assert not entry_of(state_at(other, found)).listed


def test_deltas_that_retention_erased_are_accounted_for_in_the_other_log_too(
    log: SqlEventLog, tmp_path: Path
) -> None:
    delta, answer = e.TextDelta(index=0, text="so"), AssistantMessage((Text("so"),), AT)
    events = [e.SessionCreated(session_id="s1", at=AT), delta, e.MessageCompleted(message=answer)]
    head = appended(log, KEY, events)
    log.write([Append(head, (), UNLISTED, erasures=(Erasure(head.row, 1, 3, ("text.delta",)),))])
    file = tmp_path / "session"
    file.write_bytes(exported_file(log, KEY))
    _report, found = restorable(file, ())
    assert found is not None
    silent = parse_url(f"sqlite:///{tmp_path / 'two.db'}")
    with opened(silent) as other:
        written(other, found)
    assert damaged(silent) == [2]
    told = parse_url(f"sqlite:///{tmp_path / 'three.db'}")
    gateway = Gateway(Settings(database_url=str(told)))
    gateway.restore(found, "cli")
    gateway.stop(grace_s=0)
    assert damaged(told) == []


def damaged(url: sa.URL) -> list[int]:
    with read_engine(url).connect() as connection:
        report = verify_stream(RawRows(connection), stream_of(KEY))
        assert report is not None
        return [each.seq for each in report.findings]


def test_an_export_that_an_erasure_overtakes_breaks_off(log: SqlEventLog) -> None:
    many = [e.SessionReloaded(at=AT)] * 200  # more than the first chunk that is read
    head = appended(log, KEY, [e.SessionCreated(session_id="s1", at=AT), *many])
    lines = export_lines(log, Exported(head, None, (), AT), FORMATS["jsonl"])
    first = [next(lines) for _line in range(10)]
    appended(log, KEY, [StreamErased("r1", "asked", ((1, 201),), AT)])
    log.write([Append(_head(log), (), UNLISTED, erasures=(Erasure(head.row, 1, 201),))])
    with pytest.raises(ErasedMeanwhileError, match="export it again"):
        first.extend(lines)
    assert report_of(b"".join(first)).problems[-1].problem.startswith("The file is cut off")
    assert report_of(exported_file(log, KEY)).ok


def _head(log: EventLog):
    head = log.head(stream_of(KEY))
    assert head is not None
    return head
