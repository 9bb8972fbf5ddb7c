"""Runs seeds: python -m tests.simulator --seed N [--trace] or --seeds A:B [--coverage]."""

import argparse
import sys
import time
from collections import Counter

from tests.simulator.simulation import Report, simulate
from tests.simulator.store import SharedLog, UnfencedLog


def main() -> int:
    """Run what was asked for; return how many seeds failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="0:300", help="A:B, B not included")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--broken-fence", action="store_true")
    asked = parser.parse_args()
    first, last = map(int, asked.seeds.split(":"))
    seeds = range(first, last) if asked.seed is None else range(asked.seed, asked.seed + 1)
    log_type = UnfencedLog if asked.broken_fence else SharedLog
    counts: Counter[str] = Counter()
    began, failed, steps = time.monotonic(), 0, 0
    for seed in seeds:
        report = simulate(seed, log_type)
        counts.update(report.counts)
        steps += report.steps
        failed += bool(report.violation)
        show(report, trace=asked.trace or (asked.seed is not None and bool(report.violation)))
    took_s = time.monotonic() - began
    rate = len(seeds) / took_s
    sys.stdout.write(f"{len(seeds)} seeds, {failed} failed, {steps} steps, {rate:.0f} seeds/s\n")
    if asked.coverage:
        sys.stdout.writelines(f"{count:8} {what}\n" for what, count in sorted(counts.items()))
    return min(failed, 1)


def show(report: Report, *, trace: bool) -> None:
    """Print what failed, or the whole trace."""
    if trace:
        sys.stdout.writelines(f"{line}\n" for line in report.trace)
    if trace or report.violation:
        found = report.violation or "all holds"
        sys.stdout.write(
            f"seed {report.seed} digest {report.digest} steps {report.steps}: {found}\n"
        )


if __name__ == "__main__":
    sys.exit(main())
