"""Exports over HTTP and by the command line, and sessions restored from them."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    DEADLINE_S,
    TWO_PROCESSES,
    ExecutedGateway,
    RunningGateway,
    run_command,
)
from tests.unit.audit.files import report_of

KEY = "grün:1"
PATH = "/sessions/gr%C3%BCn:1"
TYPES = {
    "jsonl": "application/x-ndjson",
    "cloudevents": "application/x-ndjson",
    "markdown": "text/markdown",
    "html": "text/html",
}


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(audit_reads=True) as running:
        asked = running.post(f"{PATH}/messages", {"text": "!think hm\nhello <b>\n!tool {}"})
        assert asked.status == 200
        if not TWO_PROCESSES:  # else they would need a key that both read
            assert running.post("/audit/checkpoints").body["signed"]
        yield running


def exported(gateway: RunningGateway, form: str = "jsonl") -> bytes:
    answer = gateway.get(f"{PATH}/audit/export?format={form}")
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"].startswith(TYPES[form])
    assert "attachment" in answer.headers["Content-Disposition"]
    content: bytes = answer.body
    return content


@pytest.mark.parametrize("form", TYPES)
def test_a_session_is_answered_as_a_file(gateway: RunningGateway, form: str) -> None:
    content = exported(gateway, form)
    if form in ("jsonl", "cloudevents"):
        report = report_of(content)
        assert report.ok, report.lines
        assert (report.format, report.stream) == (form, f"session:{KEY}")
    else:
        assert b"hello" in content
        assert b"<b>" not in content or form == "markdown"
    answer = gateway.get(f"{PATH}/audit/export?format={form}")
    assert ("Content-Security-Policy" in answer.headers) == (form == "html")


def test_who_was_given_a_file_is_recorded(gateway: RunningGateway) -> None:
    answer = gateway.get(f"{PATH}/audit/export?format=html")
    (read,) = [
        each
        for each in gateway.get("/audit/access?limit=1000").body["records"]
        if each.get("requestId") == answer.headers["X-Request-Id"]
    ]
    assert (read["resource"], read["sessionKey"]) == ("export", KEY)


def test_what_is_no_session_or_no_format_is_refused(gateway: RunningGateway) -> None:
    assert gateway.get("/sessions/nobody/audit/export").status == 404
    assert gateway.get(f"{PATH}/audit/export?format=xml").status == 400


def test_the_command_exports_the_same_events_while_the_gateway_runs(
    gateway: RunningGateway,
) -> None:
    file = gateway.folder / "session.jsonl"
    run = run_command(gateway.folder, "export", KEY, "--output", file.name)
    assert run.returncode == 0, run.stderr
    assert file.read_bytes().splitlines()[1:-1] == exported(gateway).splitlines()[1:-1]
    refused = run_command(gateway.folder, "export", "nobody")
    assert (refused.returncode, "nobody" in refused.stderr) == (1, True)


def test_what_is_no_file_is_written_to_and_stays_what_it_is(gateway: RunningGateway) -> None:
    pipe = gateway.folder / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        run = run_command(gateway.folder, "export", KEY, "--output", pipe.name)
        content, _error = reader.communicate(timeout=DEADLINE_S)
    assert (run.returncode, pipe.is_fifo()) == (0, True)
    assert report_of(content).ok
    refused = run_command(gateway.folder, "export", KEY, "--output", "nowhere/file")
    assert (refused.returncode, "can't be written" in refused.stderr) == (1, True)


def test_after_an_erasure_every_file_of_the_session_is_sound_and_without_the_text(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    word = "zanzibarine"
    assert gateway.post("/sessions/gone/messages", {"text": "what stays"}).status == 200
    before = len(gateway.get("/sessions/gone/log").body.splitlines())
    assert gateway.post("/sessions/gone/messages", {"text": f"a {word}"}).status == 200
    assert word.encode() in gateway.get("/sessions/gone/audit/export").body
    wanted = {"reason": "a word too many", "range": [before + 1, 10_000]}
    assert gateway.post("/sessions/gone/erase", wanted).status == 200
    for form in TYPES:
        content = gateway.get(f"/sessions/gone/audit/export?format={form}").body
        assert word.encode() not in content
        assert b"what stays" in content
        if form in ("jsonl", "cloudevents"):
            report = report_of(content)
            assert report.ok, report.lines
            assert report.erased > 0
    if not TWO_PROCESSES:
        stored = [path.read_bytes() for path in gateway.folder.glob("sessiond.db*")]
        assert len(stored) > 1
        assert not any(word.encode() in each for each in stored)


@pytest.mark.skipif(TWO_PROCESSES, reason="a checkpoint needs a key that both processes read")
def test_a_machine_with_the_file_and_the_key_alone_can_check_it(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    (key,) = gateway.get("/audit/keys").body["keys"]
    public = key["verifierKey"]
    (tmp_path / "session.jsonl").write_bytes(exported(gateway))
    run = run_command(tmp_path, "verify", "session.jsonl", "--public-key", public, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["signedBy"] == [public]
    changed = exported(gateway).replace(b"hello", b"hallo")
    (tmp_path / "changed.jsonl").write_bytes(changed)
    run = run_command(tmp_path, "verify", "changed.jsonl", "--public-key", public)
    assert (run.returncode, "seq 2" in run.stdout) == (1, True)
    assert {each.name for each in tmp_path.iterdir()} == {"session.jsonl", "changed.jsonl"}


def test_an_imported_session_goes_on_and_a_damaged_file_changes_nothing(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    content = exported(gateway)
    file = tmp_path / "session.jsonl"
    file.write_bytes(content.replace(b"hello", b"hallo"))
    refused = run_command(tmp_path, "import", file.name)
    assert (refused.returncode, "seq 2" in refused.stderr) == (1, True)
    assert TWO_PROCESSES or {each.name for each in tmp_path.iterdir()} == {file.name}
    file.write_bytes(content)
    run = run_command(tmp_path, "import", file.name)
    assert run.returncode == 0, run.stderr
    again = run_command(tmp_path, "import", file.name)
    assert (again.returncode, "already" in again.stderr) == (1, True)
    verified = run_command(tmp_path, "verify", "--all")
    assert verified.returncode == 0, verified.stdout
    with ExecutedGateway(tmp_path) as other:
        here, there = gateway.get(f"{PATH}/state").body, other.get(f"{PATH}/state").body
        assert (there["digest"], there["messages"]) == (here["digest"], here["messages"])
        listed = other.get("/sessions?prefix=gr%C3%BCn").body["sessions"]
        assert [each["sessionKey"] for each in listed] == [KEY]
        assert other.post(f"{PATH}/messages", {"text": "go on"}).body["response"] == "go on"
        report = report_of(other.get(f"{PATH}/audit/export").body)
        assert report.ok, report.lines
        assert report.events > content.count(b"\n")
