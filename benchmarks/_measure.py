"""Alternating measurements and the table that they end in."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Figures = dict[str, float]
"""What one run measured, by name, in the unit that the name ends with."""

REPETITIONS = 5
REPETITIONS_QUICK = 3


class Result(NamedTuple):
    """One line of the table; ``ratio`` is ours to the baseline."""

    case: str
    ours: str
    baseline: str
    ratio: float
    target: str = ""
    met: bool | None = None


class Samples:
    """What alternating runs measured: figures by run's name, one for each repetition."""

    def __init__(self, runs: Mapping[str, Sequence[Figures]]) -> None:
        self.runs = {name: list(figures) for name, figures in runs.items()}

    def median(self, run: str, figure: str) -> float:
        """Return the median over the repetitions."""
        return statistics.median(each[figure] for each in self.runs[run])

    def ratio(self, ours: str, baseline: str, figure: str) -> float:
        """Return the median of each repetition's own ratio: noise that lasts cancels out."""
        pairs = zip(self.runs[ours], self.runs[baseline], strict=True)
        return statistics.median(mine[figure] / theirs[figure] for mine, theirs in pairs)


def alternate(runs: Mapping[str, Callable[[], Figures]], repetitions: int) -> Samples:
    """Run each once, then each once again, so that all meet the same noise."""
    samples: dict[str, list[Figures]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            samples[name].append(run())
    return Samples(samples)


def repetitions_of(*, quick: bool) -> int:
    """Return how often each side of a comparison is measured."""
    return REPETITIONS_QUICK if quick else REPETITIONS


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def at_least(case: str, ours: str, baseline: str, ratio: float, least: float) -> Result:
    """Return a line whose ratio should not be below ``least``."""
    return Result(case, ours, baseline, ratio, f">= {least:g}", ratio >= least)


def at_most(case: str, ours: str, baseline: str, ratio: float, most: float) -> Result:
    """Return a line whose ratio should not be above ``most``."""
    return Result(case, ours, baseline, ratio, f"<= {most:g}", ratio <= most)


def table(rows: Sequence[tuple[str, Result]]) -> str:
    """Return the results, each with its benchmark's name, as a Markdown table."""
    header = ("benchmark", "case", "ours", "baseline", "ratio", "target", "met")
    lines = [header, *[(name, *_cells(result)) for name, result in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, tuple(["-" * width for width in widths]))
    return "\n".join([_row(line, widths) for line in lines])


def _cells(result: Result) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[result.met]
    return (
        result.case,
        result.ours,
        result.baseline,
        f"{result.ratio:.3g}",
        result.target,
        met,
    )


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded: list[Any] = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return f"| {' | '.join(padded)} |"
