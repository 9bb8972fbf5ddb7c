"""An exported file proves itself: whatever is changed in it is found, without a database."""

import io
import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from actors.audit.exporting.file_check import check_file, checked
from actors.audit.exporting.file_format import FORMATS
from actors.audit.exporting.writing import Exported, export_lines, in_file
from actors.replay import CODEC
from actors.session import events as e
from actors.session.messages import AssistantMessage, Text, UserMessage
from actors.session.record_events import StreamErased
from persistence import chain
from persistence.errors import ProofError
from persistence.in_memory import InMemoryEventLog
from persistence.records import GENESIS_HASH, Append, Erasure, Head, NewEvent, Restore
from tests.unit.audit.files import (
    AT,
    NAME,
    UNLISTED,
    appended,
    exported_file,
    proven,
    report_of,
    signing_key,
)

CHECKER = Path(__file__).parents[3] / "docs/examples/check_export.py"
KEY = "grün:1"
ASKED = e.MessageCompleted(message=UserMessage((Text("Ist das “echt”? <b>\n✓"),), AT))
FORMS = pytest.mark.parametrize("form", FORMATS)


def erased(log: InMemoryEventLog, first: int, last: int) -> None:
    head = log.head(f"session:{KEY}")
    assert head is not None
    log.write([Append(head, (), UNLISTED, erasures=(Erasure(head.row, first, last),))])


def small_session() -> tuple[InMemoryEventLog, Head]:
    """A session of six events, one of which is erased, as a later one says."""
    log = InMemoryEventLog()
    created = e.SessionCreated(session_id="s1", at=AT)
    appended(log, KEY, [created, e.SessionRenamed(name="secret", at=AT), ASKED])
    appended(
        log, KEY, [e.TextDelta(index=0, text="so"), StreamErased("r1", "asked", ((2, 2),), AT)]
    )
    erased(log, 2, 2)
    erased(log, 4, 4)
    return log, appended(log, KEY, [e.SessionReloaded(at=AT)])


@FORMS
def test_a_sound_file_is_sound_and_says_who_signed_it(form: str, tmp_path: Path) -> None:
    log, head = small_session()
    key = signing_key(tmp_path)
    public = str(key.named(NAME))
    file = tmp_path / "session.jsonl"
    file.write_bytes(exported_file(log, KEY, proven(head, key), form))
    report = check_file(file, [f"# ours\n{public}\n"])
    assert (report.ok, report.format, report.stream) == (True, form, f"session:{KEY}")
    assert (report.events, report.head, report.proven) == (6, head.hash.hex(), 6)
    assert (report.erased, report.erased_deltas) == (1, 1)
    assert report.signed_by == (public,)
    assert any("Nobody's signature" in line for line in check_file(file).lines)


@FORMS
def test_any_byte_that_is_changed_lost_or_added_is_found(form: str, tmp_path: Path) -> None:
    log, head = small_session()
    key = signing_key(tmp_path)
    content = exported_file(log, KEY, proven(head, key), form)
    public = [str(key.named(NAME))]
    assert report_of(content, public).ok
    for at, byte in enumerate(content):
        ways = (bytes([byte ^ 0x20]), bytes([byte ^ 0x01]), b"", bytes([byte, 0x20]))
        changed = content[:at] + ways[at % len(ways)] + content[at + 1 :]
        assert not report_of(changed, public).ok, (at, changed[at - 20 : at + 20])


def test_what_is_changed_and_sealed_again_is_found_too(tmp_path: Path) -> None:
    log, head = small_session()
    key = signing_key(tmp_path)
    lines = exported_file(log, KEY, proven(head, key)).splitlines(keepends=True)
    events_and_proof = b"".join(lines[1:8])
    assert report_of(sealed(lines[0] + events_and_proof), [str(key.named(NAME))]).ok
    for at, byte in enumerate(events_and_proof[: -len(b',"keys":[]}\n')]):
        changed = events_and_proof[:at] + bytes([byte ^ 0x01]) + events_and_proof[at + 1 :]
        report = report_of(sealed(lines[0] + changed), [str(key.named(NAME))])
        assert not report.ok, (at, changed[at - 20 : at + 20])


def sealed(content: bytes) -> bytes:
    digest = sha256(content).hexdigest()
    return content + b'{"end":{"events":6,"sha256":"%b"}}\n' % digest.encode()


@FORMS
def test_a_line_that_is_lost_doubled_or_moved_is_found(form: str, tmp_path: Path) -> None:
    log, _head = small_session()
    lines = exported_file(log, KEY, form=form).splitlines(keepends=True)
    for at, line in enumerate(lines):
        assert not report_of(b"".join([*lines[:at], *lines[at + 1 :]])).ok
        assert not report_of(b"".join([*lines[:at], line, *lines[at:]])).ok
        if at < len(lines) - 1:
            assert not report_of(b"".join([*lines[:at], *lines[at + 1 :], line])).ok
        assert not report_of(b"".join(lines[:at])).ok


def test_the_first_damaged_event_is_named() -> None:
    log, _head = small_session()
    content = exported_file(log, KEY).replace("“echt”".encode(), "“fake”".encode())
    (problem,) = report_of(content).problems
    assert problem.seq == 3


def test_a_forged_file_that_fits_together_does_not_fit_what_was_signed(tmp_path: Path) -> None:
    log, head = small_session()
    key = signing_key(tmp_path)
    proof = proven(head, key)
    other, _head = small_session()  # other salts, so other hashes
    forged = report_of(exported_file(other, KEY, proof), [str(key.named(NAME))])
    assert [each.problem for each in forged.problems] == [
        "Seq 6 is not the event that was signed: its hash is another."
    ]
    shorter = Exported(_before(log, 5), None, (), AT)
    short = b"".join(export_lines(log, shorter, FORMATS["jsonl"]))
    assert report_of(short).ok  # the chain alone can't tell that the end is missing
    assert not report_of(short, [str(key.named(NAME))]).ok


def _before(log: InMemoryEventLog, seq: int) -> Head:
    head = log.head(f"session:{KEY}")
    assert head is not None
    (last,) = log.read(head, after=seq - 1, before=seq + 1)
    return Head(head.row, head.stream_id, seq, last.hash, head.epoch)


def test_a_signature_of_somebody_else_is_none(tmp_path: Path) -> None:
    log, head = small_session()
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = signing_key(tmp_path / "ours"), signing_key(tmp_path / "theirs")
    content = exported_file(log, KEY, proven(head, theirs))
    assert not report_of(content, [str(ours.named(NAME))]).ok
    with pytest.raises(ProofError, match="verifier key"):
        report_of(content, ["log.example/one+00000000+" + "A" * 44])
    with pytest.raises(ProofError, match="no verifier key"):
        report_of(content, [str(theirs.named(NAME)), "# an empty file"])


def test_what_follows_the_checkpoint_is_covered_by_the_chain_alone(tmp_path: Path) -> None:
    log, head = small_session()
    key = signing_key(tmp_path)
    proof = proven(head, key)
    appended(log, KEY, [e.SessionReloaded(at=AT)])
    report = report_of(exported_file(log, KEY, proof), [str(key.named(NAME))])
    assert (report.ok, report.proven, report.events) == (True, 6, 7)
    assert "Those after it are covered by the chain alone." in report.lines


def test_an_erased_payload_needs_a_record_unless_it_was_a_delta() -> None:
    log, _head = small_session()
    erased(log, 3, 3)
    (problem,) = report_of(exported_file(log, KEY)).problems
    assert (problem.seq, "without a record" in problem.problem) == (3, True)
    appended(log, KEY, [StreamErased("r2", "asked", ((3, 4),), AT)])
    report = report_of(exported_file(log, KEY))
    assert (report.ok, report.erased, report.erased_deltas) == (True, 3, 0)


@pytest.mark.parametrize(
    ("wire_name", "payload", "said"),
    [
        ("session.vanished", b"{}", "session.vanished"),
        ("session.renamed", b'{"name": 7, "at": 1}', "name"),
        ("session.renamed", b"\xff\x00", "can't be read"),
    ],
)
def test_an_event_that_nobody_can_read_is_named(wire_name: str, payload: bytes, said: str) -> None:
    log, head = small_session()
    log.write([Append(head, (NewEvent(wire_name, 1, payload),), UNLISTED)])
    for form in FORMATS:
        (problem,) = report_of(exported_file(log, KEY, form=form)).problems
        assert problem.seq == 7
        assert said in problem.problem


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epoch": 2**63 - 1}, "epoch"),
        ({"recorded_at": -1}, "recorded at no time"),
        ({"recorded_at": 2**63}, "recorded at no time"),
        ({"causation_seq": 2}, "caused"),
        ({"principal": "token:\0"}, "null"),
        ({"correlation_id": "\0"}, "null"),
    ],
)
def test_what_no_gateway_can_have_written_is_refused_though_it_is_linked(
    changed: dict[str, Any], said: str
) -> None:
    wanted: dict[str, Any] = {"epoch": 1, "recorded_at": 1, **changed}
    head = Head(1, f"session:{KEY}", 0, GENESIS_HASH, wanted.pop("epoch"))
    at = wanted.pop("recorded_at")
    created = e.SessionCreated(session_id="s1", at=AT)
    new = NewEvent(created.wire_name, 1, CODEC.encode(created), **wanted)
    events, _end = chain.extend(head, [new], at, iter([bytes(chain.SALT_BYTES)]))
    log = InMemoryEventLog()
    log.write([Restore(head.stream_id, tuple(events), UNLISTED)])
    (problem,) = report_of(exported_file(log, KEY)).problems
    assert problem.seq == 1
    assert said in problem.problem


def test_a_proof_that_is_spelled_otherwise_is_refused(tmp_path: Path) -> None:
    log, head = small_session()
    proof = proven(head, signing_key(tmp_path))
    found = in_file(proof)
    assert found is not None
    upper = replace(found, inclusion=tuple([each.upper() for each in found.inclusion]))
    endless = replace(found, checkpoint=found.checkpoint.replace("\n3\n", f"\n{'3' * 5_000}\n"))
    for changed, said in ((upper, "is not written"), (endless, "no size of a tree")):
        exported = Exported(head, changed, (), AT)
        content = b"".join(export_lines(log, exported, FORMATS["jsonl"]))
        (problem,) = report_of(content).problems
        assert said in problem.problem


def test_a_file_is_checked_without_database_or_web_framework(tmp_path: Path) -> None:
    log, head = small_session()
    key = signing_key(tmp_path)
    file = tmp_path / "session.jsonl"
    file.write_bytes(exported_file(log, KEY, proven(head, key)))
    script = (
        "import sys; from web.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code)\n"
        "print({'sqlalchemy', 'falcon', 'gevent', 'pykka', 'sqlite3'} & set(sys.modules))"
    )
    public = str(key.named(NAME))
    arguments = [sys.executable, "-c", script, "verify", file.name, "--public-key", public]
    found = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"Signed by {public}.\n0\nset()\n" in found.stdout
    assert sorted(tmp_path.iterdir()) == [file, tmp_path / "signing.key"]


def test_the_state_that_a_file_leads_to_is_the_sessions() -> None:
    log, _head = small_session()
    answer = e.MessageCompleted(message=AssistantMessage((Text("yes"),), AT))
    appended(log, KEY, [answer])
    seen: list[int] = []
    content = io.BytesIO(exported_file(log, KEY))
    _report, state = checked(content, keep=lambda event, _state: seen.append(event.seq))
    assert (state.key, state.message_count, state.preview) == (KEY, 2, "yes")
    assert seen == list(range(1, 8))


ATTRIBUTE = re.compile("[a-z0-9]{1,20}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_each_line_is_a_cloud_event(tmp_path: Path) -> None:
    log, head = small_session()
    log.write([Append(head, (NewEvent("session.renamed", 1, b"\xff"),), UNLISTED)])
    content = exported_file(log, KEY, proven(head, signing_key(tmp_path)), "cloudevents")
    events: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
    assert len({(each["source"], each["id"]) for each in events}) == len(events) == 10
    for event in events:
        attributes = {name: value for name, value in event.items() if name[:4] != "data"}
        assert event["specversion"] == "1.0"
        assert all(ATTRIBUTE.fullmatch(name) for name in attributes)
        assert all(
            isinstance(value, str) or (type(value) is int and abs(value) < 2**31)
            for value in attributes.values()
        )
        assert all(str(value).isprintable() for value in attributes.values())
        assert event["source"] == "/sessions/gr%C3%BCn%3A1"
        assert event["type"].startswith(("sessiond.", "sessiond-export."))
        assert TIMESTAMP.fullmatch(event["time"])
        held = {"data", "data_base64"} & set(event)
        assert len(held) == ("datacontenttype" in event)
    binary = events[7]
    assert (binary["datacontenttype"], binary["data_base64"]) == (
        "application/octet-stream",
        "/w==",
    )
    assert "data" not in events[2]  # it is erased
    assert events[3]["datacontenttype"] == "application/json"


def test_a_digest_that_follows_from_the_payload_makes_no_other_file() -> None:
    """A log that encrypts payloads stores the digest of each; what it exports is the same."""
    log, head = small_session()
    events = [
        event
        if event.payload is None or event.salt is None
        else replace(event, payload_digest=chain.digest_of(event.salt, event.payload))
        for event in log.read(head)
    ]
    other = InMemoryEventLog()
    other.write([Restore(head.stream_id, tuple(events), UNLISTED)])
    assert exported_file(other, KEY) == exported_file(log, KEY)
    events[0] = replace(events[0], payload_digest=bytes(32))
    damaged = InMemoryEventLog()
    damaged.write([Restore(head.stream_id, tuple(events), UNLISTED)])
    (problem,) = report_of(exported_file(damaged, KEY)).problems
    assert problem.seq == 1


def test_a_program_that_knows_the_documentation_alone_comes_to_the_same(tmp_path: Path) -> None:
    log, head = small_session()
    file = tmp_path / "session.jsonl"
    content = exported_file(log, KEY, proven(head, signing_key(tmp_path)))
    for changed, status in ((content, 0), (content.replace("✓".encode(), b"x"), 1)):
        file.write_bytes(changed)
        command = [sys.executable, "-I", "-S", CHECKER, file]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (run.returncode, head.hash.hex() in run.stdout) == (status, status == 0)
    assert "seq 3" in run.stderr
