"""GET /metrics of the real gateway, over reloads and restarts."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.acceptance.conftest import StartGateway
from tests.acceptance.gateway import RunningGateway, until
from web.metrics_files import DIRECTORY_VARIABLE, LEFT_BEHIND_S, PREFIX

TOKEN = "metrics-token"
SESSION_ROUTE = 'sessiond_http_requests_total{method="GET",route="/sessions/{key}",status="404"}'


def read(gateway: RunningGateway) -> dict[str, float]:
    answer = gateway.get("/metrics", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        name: float(value)
        for name, value in re.findall(r"^(sessiond_.+) (\S+)$", answer.body.decode(), re.M)
    }


def look(gateway: RunningGateway, times: int) -> None:
    for number in range(times):
        answer = gateway.get(f"/sessions/nobody-{number}", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 404


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob(f"{PREFIX}*"))


@pytest.fixture
def gateway(start_gateway: StartGateway, worker_class: str, tmp_path: Path) -> RunningGateway:
    return start_gateway(
        variables={"TMPDIR": str(tmp_path)}, token=TOKEN, worker_class=worker_class
    )


def test_requests_are_counted_and_no_key_is_shown(gateway: RunningGateway) -> None:
    assert gateway.get("/metrics").status == 401
    look(gateway, 3)
    counted = read(gateway)
    assert counted[SESSION_ROUTE] == 3
    assert counted['sessiond_http_requests_total{method="GET",route="none",status="401"}'] == 1
    assert not [name for name in counted if "nobody" in name]


def test_a_reload_sets_nothing_back_and_the_end_leaves_nothing(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    look(gateway, 2)
    (directory,) = left_in(tmp_path)
    first = workers_of(directory)
    assert gateway._process is not None
    gateway._process.send_signal(signal.SIGHUP)
    until(lambda: not first & workers_of(directory), "the first worker's files are added up")
    look(gateway, 1)
    assert read(gateway)[SESSION_ROUTE] == 3
    assert len(workers_of(directory)) == 1
    gateway.terminate()
    assert left_in(tmp_path) == []


def workers_of(directory: Path) -> set[str]:
    return {path.stem.rpartition("_")[2] for path in directory.glob("*.db")} - {"0"}


def test_a_killed_gateway_s_files_are_neither_counted_nor_kept(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    look(gateway, 2)
    (left,) = left_in(tmp_path)
    gateway.kill()
    before = left.stat().st_mtime - LEFT_BEHIND_S - 1
    os.utime(left, (before, before))
    gateway.start()
    look(gateway, 1)
    assert read(gateway)[SESSION_ROUTE] == 1
    assert left not in left_in(tmp_path)


def test_the_operator_s_directory_is_used_and_kept(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = start_gateway(variables={DIRECTORY_VARIABLE: str(tmp_path)}, token=TOKEN)
    look(gateway, 1)
    assert read(gateway)[SESSION_ROUTE] == 1
    gateway.terminate()
    assert list(tmp_path.glob("counter_*.db"))
