"""Several processes that count together, and the files by which they do."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from web.metrics_files import DIRECTORY_VARIABLE, LEFT_BEHIND_S, PREFIX, MetricsFiles, bury

ROOT = Path(__file__).parents[3]

COUNTING = """
import sys
from web.metrics import process_metrics
metrics = process_metrics()
for _ in range(int(sys.argv[1])):
    metrics.request("GET", "/health", 200, 0.02)
metrics.refresh(
    sessions_loaded=int(sys.argv[1]), runs=0, streams_open=0, writer_queue=0, sessions_followed=0
)
metrics.lease_age(float(sys.argv[1]))
print("counted", flush=True)
sys.stdin.read()
"""

READING = """
import sys
from falcon.testing import TestClient
from web.app import create_app
from web.bootstrap import Gateway
from web.settings import load_settings
gateway = Gateway(load_settings(database_url=sys.argv[1]))
try:
    print(TestClient(create_app(gateway)).simulate_get("/metrics").text)
finally:
    gateway.stop(grace_s=0)
"""


def shared_by(directory: Path) -> dict[str, str]:
    return {**os.environ, DIRECTORY_VARIABLE: str(directory)}


class TestProcesses:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        made = tmp_path / "metrics"
        made.mkdir()
        return made

    @pytest.fixture
    def workers(self, directory: Path) -> Iterator[Sequence[subprocess.Popen[str]]]:
        running = [
            subprocess.Popen(
                [sys.executable, "-c", COUNTING, count],
                cwd=ROOT,
                env=shared_by(directory),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for count in ("2", "3")
        ]
        try:
            for each in running:
                assert each.stdout is not None
                assert each.stdout.readline() == "counted\n"
            yield running
        finally:
            for each in running:
                each.communicate()

    def read(self, directory: Path, tmp_path: Path) -> dict[str, float]:
        """Return what a third process's route answers, by the samples' names."""
        text = subprocess.run(
            [sys.executable, "-c", READING, f"sqlite:///{tmp_path / 'sessiond.db'}"],
            cwd=ROOT,
            env=shared_by(directory),
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        return {
            sample.name + sample.labels.get("le", ""): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("route", "/health") == "/health"
        }

    def test_any_of_them_answers_for_all_and_none_is_counted_less_when_it_ends(
        self,
        directory: Path,
        tmp_path: Path,
        workers: Sequence[subprocess.Popen[str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        read = self.read(directory, tmp_path)
        assert read["sessiond_http_requests_total"] == 5
        assert read["sessiond_http_request_duration_seconds_bucket0.025"] == 5
        assert read["sessiond_sessions_loaded"] == 5
        assert read["sessiond_lease_age_seconds"] == 3

        monkeypatch.setenv(DIRECTORY_VARIABLE, str(directory))
        for each, loaded in zip(reversed(workers), (2, 0), strict=True):
            each.communicate()
            bury(each.pid)
            assert not list(directory.glob(f"*_{each.pid}.db"))
            read = self.read(directory, tmp_path)
            assert read["sessiond_http_requests_total"] == 5
            assert read["sessiond_http_request_duration_seconds_bucket0.025"] == 5
            assert read["sessiond_http_request_duration_seconds_sum"] == pytest.approx(0.1)
            assert read["sessiond_sessions_loaded"] == loaded

    def test_a_worker_that_counted_nothing_or_wrote_nonsense_ends_nobody_else(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(DIRECTORY_VARIABLE, str(directory))
        bury(1)
        for name in ("counter_0.db", "counter_1.db"):
            (directory / name).write_bytes(b"\xff" * 100)
        bury(1)
        monkeypatch.setenv(DIRECTORY_VARIABLE, str(directory / "gone"))
        bury(1)


class TestFiles:
    def made(self, parent: Path, environment: dict[str, str]) -> MetricsFiles:
        return MetricsFiles(environment, parent, os.geteuid(), os.getegid())

    def test_a_master_has_a_private_directory_until_it_ends(self, tmp_path: Path) -> None:
        environment: dict[str, str] = {}
        files = self.made(tmp_path, environment)
        directory = Path(environment[DIRECTORY_VARIABLE])
        assert directory.parent == tmp_path
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "counter_1.db").touch()
        files.remove()
        files.remove()
        assert not directory.exists()

    def test_one_that_the_operator_named_is_used_and_kept(self, tmp_path: Path) -> None:
        environment = {DIRECTORY_VARIABLE: str(tmp_path / "mine")}
        self.made(tmp_path, environment).remove()
        assert environment == {DIRECTORY_VARIABLE: str(tmp_path / "mine")}
        assert not list(tmp_path.glob(f"{PREFIX}*"))

    def test_a_master_that_replaces_another_does_not_share_its_directory(
        self, tmp_path: Path
    ) -> None:
        environment: dict[str, str] = {}
        first = self.made(tmp_path, environment)
        inherited = dict(environment)
        second = self.made(tmp_path, inherited)
        assert inherited != environment
        first.remove()
        assert Path(inherited[DIRECTORY_VARIABLE]).is_dir()
        second.remove()

    def test_what_killed_masters_left_is_removed_and_nothing_else(self, tmp_path: Path) -> None:
        environment: dict[str, str] = {}
        living = self.made(tmp_path, environment)
        left, young = tmp_path / f"{PREFIX}left", tmp_path / f"{PREFIX}young"
        for directory in (left, young):
            directory.mkdir()
            (directory / "counter_1.db").touch()
        target = tmp_path / "target"
        target.mkdir()
        link = tmp_path / f"{PREFIX}link"
        link.symlink_to(target)
        for old in (left, Path(environment[DIRECTORY_VARIABLE]), target, link):
            before = old.lstat().st_mtime - LEFT_BEHIND_S - 1
            os.utime(old, (before, before), follow_symlinks=False)
        self.made(tmp_path, {}).remove()
        assert not left.exists()
        assert young.exists()
        assert target.exists()
        assert Path(environment[DIRECTORY_VARIABLE]).exists()
        living.remove()
