from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.chaos.run import Size, run

SHORT = Size(8, 2, sessions=12, prompting=3, reading=6, lease_s=4)
LONG = Size(300, 5, sessions=200, prompting=12, reading=40)
TAKEOVER_S_MAX = 3.0


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize(
    "on_crash", ["interrupt", pytest.param("continue", marks=pytest.mark.faults)]
)
def test_nothing_is_lost_when_workers_are_killed(
    postgres_url: sa.URL, tmp_path: Path, on_crash: str
) -> None:
    report = run(tmp_path, postgres_url, SHORT, seed=7, on_crash=on_crash)
    assert report.deaths >= 2
    assert report.acknowledged > 20
    assert report.frames > 100


@pytest.mark.faults
def test_nothing_is_lost_in_five_minutes_of_it(postgres_url: sa.URL, tmp_path: Path) -> None:
    report = run(tmp_path, postgres_url, LONG, seed=7)
    assert report.deaths >= 50
    assert _median(report.waited_s) < TAKEOVER_S_MAX
