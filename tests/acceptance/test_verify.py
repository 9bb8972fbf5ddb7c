"""Logs verified by HTTP and by the command line, beside the gateway that writes them."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.asking import TOKEN, ask, get
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import TWO_PROCESSES, RunningGateway, run_command

KEY = "web:main"
PATH = f"/sessions/{KEY}"

pytestmark = pytest.mark.skipif(
    TWO_PROCESSES, reason="the commands read one database, which the tests damage"
)


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=TOKEN, checkpoint_minutes=0) as running:
        for key in (KEY, "gone"):
            assert ask(running, "POST", f"/sessions/{key}/messages", {"text": "hi"}).status == 200
        assert ask(running, "POST", "/memory/remember", {"content": "Likes tea"}).status == 200
        yield running


@pytest.fixture(scope="module")
def signed(gateway: RunningGateway) -> str:
    """The checkpoint that was signed first."""
    note: str = ask(gateway, "POST", "/audit/checkpoints").body["note"]
    return note


def verify(folder: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return run_command(folder, "verify", *arguments, **settings)


def verified(folder: Path, *arguments: str) -> Any:
    return json.loads(verify(folder, *arguments, "--json").stdout)


@pytest.fixture
def damaged(gateway: RunningGateway, tmp_path: Path) -> Path:
    """A copy of the running gateway's database, open to changes."""
    copy = tmp_path / "sessiond.db"
    with (
        closing(sqlite3.connect(gateway.folder / "sessiond.db")) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            target.execute(f"DROP TRIGGER {name}")
    return tmp_path


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "sessiond.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


OF_MAIN = f"stream = (SELECT id FROM streams WHERE stream_id = 'session:{KEY}')"


def test_a_session_is_verified_over_http(gateway: RunningGateway) -> None:
    answer = get(gateway, f"{PATH}/audit/verify")
    newest = get(gateway, f"{PATH}/log?limit=1000")["events"][-1]
    assert answer["ok"]
    assert answer["problems"] == []
    assert answer["head"] == {"seq": newest["seq"], "hash": newest["hash"]}
    assert answer["events"] == newest["seq"]


def test_from_the_checkpoint_on_nothing_is_left_to_read(
    gateway: RunningGateway, signed: str
) -> None:
    answer = get(gateway, f"{PATH}/audit/verify?fromCheckpoint=true")
    assert answer["ok"]
    assert answer["events"] == 0
    assert answer["checkpoint"]["seq"] == answer["since"] == answer["head"]["seq"]
    assert signed.startswith(f"{answer['checkpoint']['origin']}\n{answer['checkpoint']['size']}\n")


def test_a_deleted_session_is_verified_and_one_that_never_was_is_not_found(
    gateway: RunningGateway,
) -> None:
    assert ask(gateway, "DELETE", "/sessions/gone").status == 200
    assert get(gateway, "/sessions/gone/audit/verify")["ok"]
    assert ask(gateway, "GET", "/sessions/never/audit/verify").status == 404


def test_who_may_only_read_may_not_verify(gateway: RunningGateway) -> None:
    wanted = {"name": "reader", "scopes": ["read"]}
    token = ask(gateway, "POST", "/tokens", wanted).body["token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert gateway.request("GET", f"{PATH}/audit/verify", headers=headers).status == 403


def test_all_streams_are_verified_beside_the_running_gateway(
    gateway: RunningGateway, signed: str
) -> None:
    found = verify(gateway.folder, "--all")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("Sound: ")
    report = verified(gateway.folder, "--all")
    assert report["ok"]
    assert report["streams"] >= 4
    assert str(report["checkpoint"]) == signed.splitlines()[1]
    later = verified(gateway.folder, "--all", "--from-checkpoint")
    assert later["ok"]
    assert later["events"] < report["events"]


def test_one_stream_is_verified_by_its_key_or_its_name(gateway: RunningGateway) -> None:
    head = get(gateway, f"{PATH}/audit/verify")["head"]
    assert verified(gateway.folder, KEY)["head"] == head
    assert verified(gateway.folder, "gateway")["ok"]


def test_a_changed_event_is_named_and_the_status_says_damage(damaged: Path) -> None:
    change(damaged, f"UPDATE events SET principal = 'mallory' WHERE seq = 3 AND {OF_MAIN}")
    found = verify(damaged, KEY)
    assert found.returncode == 1
    assert found.stdout.startswith(f"session:{KEY}  seq 3  ")
    assert "Damaged: 1 of 1 stream" in found.stdout
    everything = verified(damaged, "--all", "--jobs", "2")
    assert [(each["stream"], each["seq"]) for each in everything["problems"]] == [
        (f"session:{KEY}", 3)
    ]


def test_a_tail_cut_off_together_with_its_head_is_named_by_the_checkpoint(
    damaged: Path, signed: str
) -> None:
    left = f"SELECT hash FROM events WHERE seq = 2 AND {OF_MAIN}"
    change(
        damaged,
        f"DELETE FROM events WHERE seq > 2 AND {OF_MAIN}",
        f"UPDATE streams SET version = 2, hash = ({left}) WHERE stream_id = 'session:{KEY}'",
    )
    problems = verified(damaged, KEY)["problems"]
    assert {"stream": f"session:{KEY}", "seq": 3} in [
        {name: each[name] for name in ("stream", "seq")} for each in problems
    ]
    note = damaged / "note.txt"
    note.write_text(signed)
    found = verify(damaged, "--checkpoint", "note.txt")
    assert found.returncode == 1
    assert f"session:{KEY}  seq 3  cut off" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "no session, stream or file"),
        ([], "Name a session"),
        (["--all", "--public-key", "rubbish"], "no verifier key"),
    ],
)
def test_what_cannot_be_checked_has_a_status_of_its_own(
    gateway: RunningGateway, arguments: list[str], told: str
) -> None:
    found = verify(gateway.folder, *arguments)
    assert found.returncode == 2
    assert told in found.stderr


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = verify(tmp_path, "--all")
    assert found.returncode == 2
    assert "There is no database" in found.stderr
    assert list(tmp_path.glob("sessiond.db*")) == []
