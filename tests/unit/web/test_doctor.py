"""What the doctor says of a gateway that would not start, or not do what it was asked to."""

import base64
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from persistence.diagnosis import Diagnosis
from persistence.engine import parse_url, write_engine
from persistence.postgres import grants
from persistence.single_process import SingleProcessLock
from tests.sqlite import make_database
from web.cli.doctor.findings import Finding
from web.cli.doctor.log import check_clock, check_log
from web.cli.doctor.machine import (
    check_address,
    check_files,
    check_limits,
    check_sandbox,
    check_space,
)
from web.cli.doctor.services import check_models, check_servers
from web.cli.main import main
from web.settings import Settings

MCP_SERVER = Path(__file__).parents[2] / "integration" / "mcp_server.py"


def settings_of(folder: Path, **given: object) -> Settings:
    known = {
        "database_url": f"sqlite:///{folder}/log.db",
        "workspaces_dir": str(folder / "workspaces"),
    }
    return Settings.model_validate(known | given)


def of(findings: Iterable[Finding], check: str) -> Finding:
    return next(each for each in findings if each.check == check)


def wrong(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(each.check, each.status) for each in findings if each.status != "ok"]


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_before_the_first_start_all_is_well(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    found = list(check_log(settings))
    assert wrong(found) == []
    assert "there is no" in of(found, "database").said
    assert list(tmp_path.iterdir()) == []


def test_who_serves_a_database_is_named(tmp_path: Path) -> None:
    make_database(tmp_path / "log.db")
    settings = settings_of(tmp_path)
    assert of(check_log(settings), "served by").said == "no process"
    lock = SingleProcessLock(str(tmp_path / "log.db"))
    lock.acquire(sibling_wait_s=0)
    found = of(check_log(settings), "served by")
    lock.release()
    assert found.said.removeprefix("process ").isdigit()


def test_a_schema_that_is_old_is_warned_of_and_a_newer_one_is_a_failure(tmp_path: Path) -> None:
    make_database(tmp_path / "log.db")
    settings = settings_of(tmp_path)
    engine = write_engine(parse_url(settings.database_url))
    for revision, status in (("0001", "warn"), ("9999", "fail")):
        with engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{revision}'"))
        assert of(check_log(settings), "schema").status == status
    engine.dispose()


def test_sqlite_carries_one_worker(tmp_path: Path) -> None:
    assert wrong(check_log(settings_of(tmp_path, workers=2))) == [("database", "fail")]


def test_a_database_that_is_none_is_a_failure_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"no database at all, and long enough for one" * 100)
    found = of(check_log(settings_of(tmp_path)), "database")
    assert (found.status, "backup" in found.todo) == ("fail", True)
    (tmp_path / "log.db").unlink()
    (tmp_path / "log.db").mkdir()
    found = of(check_log(settings_of(tmp_path)), "database")
    assert (found.status, "Name a file" in found.todo) == ("fail", True)


def test_an_address_of_no_database_is_one_finding() -> None:
    variables = {"SESSIOND_DATABASE_URL": "mysql://somebody@host/log"}
    found = json.loads(CliRunner().invoke(main, ["doctor", "--json"], env=variables).stdout)
    assert [(each["check"], each["status"]) for each in found["checks"]] == [("database", "fail")]


def test_a_key_that_is_none_must_make_way_for_another(tmp_path: Path) -> None:
    make_database(tmp_path / "log.db")
    key = tmp_path / "log.db.key"
    key.write_text("no key")
    assert f"mv {key} " in of(check_log(settings_of(tmp_path)), "signing").todo


def test_keys_that_can_not_be_read_are_failures(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        signing_key_file=str(tmp_path / "signing.key"),
        encryption_key_file=str(tmp_path / "master.key"),
    )
    assert wrong(check_log(settings)) == [("signing", "fail"), ("encryption", "fail")]


def test_a_memory_in_clear_beside_an_encrypted_log_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    file.write_text(base64.b64encode(bytes(32)).decode())
    for remembers, status in ((True, "warn"), (False, "ok")):
        settings = settings_of(tmp_path, encryption_key_file=str(file), memory_enabled=remembers)
        assert of(check_log(settings), "encryption").status == status


def test_an_open_address_without_a_token_and_a_short_token_are_told(tmp_path: Path) -> None:
    assert wrong(check_log(settings_of(tmp_path, bind="0.0.0.0"))) == [("access", "fail")]
    short = settings_of(tmp_path, token="short", port=0)
    assert wrong(check_address(short)) == [("token", "warn")]


def test_secrets_that_others_can_read_are_warned_of(tmp_path: Path) -> None:
    key = tmp_path / "log.db.key"
    key.write_text("secret")
    tmp_path.chmod(0o755)
    for mode, status in ((0o644, "warn"), (0o600, "ok")):
        key.chmod(mode)
        found = [each for each in check_files(settings_of(tmp_path)) if str(key) in each.said]
        assert [each.status for each in found] == [status]
    tmp_path.chmod(0o700)
    key.chmod(0o644)
    assert wrong(check_files(settings_of(tmp_path))) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_may_not_be_written_is_told_with_how_to_own_it(tmp_path: Path) -> None:
    make_database(tmp_path / "log.db")
    tmp_path.chmod(0o500)
    settings = settings_of(tmp_path)
    assert f"chmod 700 {tmp_path}" in of(check_files(settings), "files").todo
    assert "must let who serves write" in of(check_log(settings), "database").todo
    tmp_path.chmod(0o700)


def test_a_folder_that_is_a_file_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = settings_of(tmp_path, database_url=f"sqlite:///{tmp_path}/file/log.db")
    assert wrong(check_files(settings)) == [("files", "fail")]


def test_space_and_limits_are_told(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, tools="write", connections_max=2**40)
    assert " GiB are free " in of(check_space(settings), "disk").said
    assert wrong(check_limits(settings)) == [("limits", "warn")]


def test_a_port_that_another_program_has_is_a_failure(tmp_path: Path, free_port: int) -> None:
    assert wrong(check_address(settings_of(tmp_path, port=0))) == []
    assert wrong(check_address(settings_of(tmp_path, port=free_port))) == [("port", "fail")]


def test_without_a_sandbox_commands_are_asked_about(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, tools="all", sandbox="none", tool_modules=["no_such_module"])
    assert wrong(check_sandbox(settings)) == [("sandbox", "warn"), ("tools", "fail")]
    assert wrong(check_sandbox(settings_of(tmp_path, sandbox="none"))) == []


def test_models_are_asked_online_only(tmp_path: Path, free_port: int) -> None:
    settings = settings_of(tmp_path)
    assert wrong(check_models(settings, {}, online=True)) == [("model", "warn")]
    nobody = {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": f"http://127.0.0.1:{free_port}/v1"}
    assert wrong(check_models(settings, nobody, online=False)) == []
    assert wrong(check_models(settings, nobody, online=True)) == [("openai", "fail")]
    unknown = settings_of(tmp_path, model="anthropic/some")
    assert wrong(check_models(unknown, {}, online=False)) == [("model", "fail")]


def test_mcp_servers_are_started_online_only(tmp_path: Path) -> None:
    servers = [
        {"name": "good", "command": [sys.executable, str(MCP_SERVER), "stdio"]},
        {"name": "ends", "command": ["false"]},
        {"name": "none", "command": ["no-such-program"]},
    ]
    settings = settings_of(tmp_path, tools="all", mcp_servers=servers)
    assert wrong(check_servers(settings, online=False)) == [("mcp", "fail")]
    asked = list(check_servers(settings, online=True))
    assert [each.said.split()[0] for each in asked if each.status == "fail"] == ["none:", "ends"]
    assert "good is ready, with " in asked[1].said


def test_a_clock_that_is_wrong_is_warned_of() -> None:
    now_us = time.time_ns() // 1_000
    assert wrong(check_clock(Diagnosis("SQLite", None, now_us, ()))) == []
    for diagnosis in (
        Diagnosis("SQLite", None, now_us + 3_600_000_000, ()),
        Diagnosis("PostgreSQL", -3_000_000, now_us, ()),
    ):
        (found,) = check_clock(diagnosis)
        assert (found.status, found.check) == ("warn", "clock")


def test_postgresql_tells_its_version_and_its_clock(postgres_url: sa.URL, tmp_path: Path) -> None:
    url = postgres_url.render_as_string(hide_password=False)
    found = list(check_log(settings_of(tmp_path, database_url=url)))
    assert wrong(found) == [("signing", "warn")]
    assert of(found, "database").said.startswith("PostgreSQL ")
    assert of(found, "served by").said == "0 worker processes"
    assert of(found, "clock").said.startswith("the clock is 0.")


def test_what_a_role_lacks_is_named(postgres_url: sa.URL, tmp_path: Path) -> None:
    engine = sa.create_engine(postgres_url)
    lacking = postgres_url.set(username="lacking", password="secret")
    shown = lacking.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE lacking LOGIN PASSWORD 'secret'")
    try:
        bare = of(check_log(settings_of(tmp_path, database_url=shown)), "database")
        assert (bare.status, "sessiond grants" in bare.todo) == ("fail", True)
        with engine.begin() as connection:
            for statement in grants("lacking"):
                connection.exec_driver_sql(statement)
        assert wrong(check_log(settings_of(tmp_path, database_url=shown))) == [("signing", "warn")]
        with engine.begin() as connection:
            connection.exec_driver_sql("REVOKE INSERT ON events FROM lacking")
            connection.exec_driver_sql("REVOKE UPDATE (salt) ON events FROM lacking")
        found = of(check_log(settings_of(tmp_path, database_url=shown)), "grants")
        assert found.status == "fail"
        assert found.said.endswith(": INSERT on events, UPDATE of salt on events.")
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY lacking; DROP ROLE lacking")
        engine.dispose()


def test_settings_that_can_not_be_used_are_the_only_finding() -> None:
    variables = {"SESSIOND_PORT": "many"}
    found = CliRunner().invoke(main, ["doctor", "--json"], env=variables)
    report = json.loads(found.stdout)
    assert found.exit_code == 1
    assert [(each["check"], each["status"]) for each in report["checks"]] == [("settings", "fail")]
    assert "port" in report["checks"][0]["said"]
