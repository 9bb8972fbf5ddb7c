"""Several processes over one store, under faults, each life made up from a seed.

`python -m tests.simulator --seed N --trace` shows a seed step by step.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from actors.session.events import EVENT_TYPES
from tests.simulator.faults import KINDS
from tests.simulator.simulation import simulate
from tests.simulator.store import UnfencedLog

ROOT = Path(__file__).parents[2]
SEEDS = 150
SEEDS_TWICE = 10
SEEDS_TO_CATCH = 50
FAULT_SEEDS = 10_000
FAULT_PARTS = 10
DEADLINE_S = 60
NEVER_SEEN = ("session.imported", "tool_input.delta")
"""What no simulated client or model does."""


def violations(seeds: range) -> list[str]:
    reports = [simulate(seed) for seed in seeds]
    return [f"seed {each.seed}: {each.violation}" for each in reports if each.violation]


def is_caught(seed: int) -> bool:
    """Tell whether a seed finds that nobody is fenced, and nothing else."""
    return bool(simulate(seed, UnfencedLog).violation) and not simulate(seed).violation


def digests_in_a_process(hash_seed: int) -> list[str]:
    script = (
        "from tests.simulator.simulation import simulate\n"
        f"for seed in range({SEEDS_TWICE}): print(simulate(seed).digest)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    return ended.stdout.split()


def test_the_invariants_hold_whatever_goes_wrong() -> None:
    counts: Counter[str] = Counter()
    found = []
    for seed in range(SEEDS):
        report = simulate(seed)
        counts.update(report.counts)
        if report.violation:
            found.append(f"seed {seed}: {report.violation}")
    assert found == []
    assert [kind for kind in KINDS if not counts[f"fault {kind}"]] == []
    assert counts["outcome outcome_unknown"]
    assert counts["snapshot read"]
    assert [each for each in NEVER_SEEN if counts[each]] == []
    names = [each.wire_name for each in EVENT_TYPES]
    assert [name for name in names if not counts[name] and name not in NEVER_SEEN] == []


@pytest.mark.faults
@pytest.mark.parametrize("part", range(FAULT_PARTS))
def test_the_invariants_hold_over_many_seeds(part: int) -> None:
    size = FAULT_SEEDS // FAULT_PARTS
    assert violations(range(SEEDS + part * size, SEEDS + (part + 1) * size)) == []


def test_a_store_that_fences_nobody_is_caught() -> None:
    assert any(is_caught(seed) for seed in range(SEEDS_TO_CATCH))


def test_a_seed_gives_the_same_life_every_time_whatever_strings_hash_to() -> None:
    here = [simulate(seed).digest for seed in range(SEEDS_TWICE)]
    assert [simulate(seed).digest for seed in range(SEEDS_TWICE)] == here
    assert digests_in_a_process(1) == here
    assert digests_in_a_process(2) == here
