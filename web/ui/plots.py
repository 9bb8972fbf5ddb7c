"""Bars over time, as figures that a template draws in SVG. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

WIDTH = 720
HEIGHT = 180
LEFT = 56
BOTTOM = 24
TOP = 8
TICKS = 4
GAP = 0.2
"""The part of a bar's place that stays empty."""


class Series(Struct, frozen=True):
    """Values of one colour; ``style`` is a class of the style sheet."""

    label: str
    style: str
    values: Sequence[float]


class Bar(Struct, frozen=True):
    """A rectangle, with what it stands for."""

    x: float
    y: float
    width: float
    height: float
    style: str
    title: str


class Tick(Struct, frozen=True):
    """A label at a place of an axis."""

    at: float
    label: str


class Plot(Struct, frozen=True):
    """Stacked bars, with both axes' labels; ``summary`` is for who does not see them."""

    title: str
    summary: str
    series: Sequence[Series]
    bars: list[Bar]
    rows: list[Tick]
    columns: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = HEIGHT - BOTTOM


def bars(title: str, series: Sequence[Series], ends_ms: Sequence[int]) -> Plot:
    """Return series stacked on one another, one bar for each end of a span of time."""
    count = len(ends_ms)
    sums = [sum(each.values[index] for each in series) for index in range(count)]
    top = _round_up(max(sums, default=0))
    drawn = HEIGHT - BOTTOM - TOP
    place = (WIDTH - LEFT) / max(1, count)
    found: list[Bar] = []
    for index in range(count):
        low = float(HEIGHT - BOTTOM)
        for each in series:
            value = each.values[index]
            if value:
                height = value / top * drawn
                low -= height
                title_of = f"{_clock(ends_ms[index])}: {_figure(value)} {each.label}"
                x = LEFT + (index + GAP / 2) * place
                found.append(
                    Bar(
                        round(x, 1),
                        round(low, 1),
                        round(place * (1 - GAP), 1),
                        round(height, 1),
                        each.style,
                        title_of,
                    )
                )
    rows = [
        Tick(round(HEIGHT - BOTTOM - drawn * step / 2, 1), _figure(top * step / 2))
        for step in range(3)
    ]
    every = max(1, count // TICKS)
    columns = [
        Tick(round(LEFT + (index + 0.5) * place, 1), _clock(ends_ms[index]))
        for index in range(every // 2, count, every)
    ]
    said = ", ".join(f"{_figure(sum(each.values))} {each.label}" for each in series)
    return Plot(title, f"{title}: {said} in all", series, found, rows, columns)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20 and so on, also below one."""
    if value <= 0:
        return 1.0
    size = 1.0
    while size > value:
        size /= 10
    while size * 10 < value:
        size *= 10
    return next(size * step for step in (1, 2, 5, 10) if size * step >= value)


def _figure(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:,.1f}M"
    if value >= 10_000:
        return f"{value / 1_000:,.0f}k"
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%H:%M")
