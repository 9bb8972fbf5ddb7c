"""Which payloads of a stream are gone, and whether the stream says why. Pure."""

from collections.abc import Iterable

from msgspec import Struct

from actors.session.record_events import StreamErased

DELTA_TYPES = frozenset({"text.delta", "thinking.delta", "tool_input.delta"})
"""What may go once its message is whole: how that is recorded is not in the stream itself."""

Range = tuple[int, int]


class _Run(Struct):
    """Erased events one after the other, all of them deltas or none."""

    first: int
    last: int
    deltas: bool


class Coverage:
    """Follows a stream's events in order; what is erased must be covered by a later event."""

    def __init__(self) -> None:
        self.recorded = 0
        self._open: list[_Run] = []

    def erased(self, seq: int, wire_name: str) -> None:
        """Take note of an event without a payload."""
        deltas = wire_name in DELTA_TYPES
        last = self._open[-1] if self._open else None
        if last is not None and last.last == seq - 1 and last.deltas == deltas:
            last.last = seq
        else:
            self._open.append(_Run(seq, seq, deltas))

    def covered(self, event: StreamErased) -> None:
        """Take note of what the stream says was erased of it until here."""
        left: list[_Run] = []
        ranges = _merged(event.ranges)
        index = 0
        for run in self._open:
            first = run.first
            while index < len(ranges) and ranges[index][1] < first:
                index += 1
            at = index
            while first <= run.last and at < len(ranges) and ranges[at][0] <= run.last:
                low, high = ranges[at]
                if first < low:
                    left.append(_Run(first, low - 1, run.deltas))
                self.recorded += min(high, run.last) - max(first, low) + 1
                first = high + 1
                at += 1
            if first <= run.last:
                left.append(_Run(first, run.last, run.deltas))
        self._open = left

    @property
    def by_retention(self) -> int:
        """Return how many deltas are gone that the stream itself does not account for."""
        return sum([run.last - run.first + 1 for run in self._open if run.deltas])

    @property
    def unexplained(self) -> list[Range]:
        """Return which other events are gone without a record."""
        return [(run.first, run.last) for run in self._open if not run.deltas]


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """Return the ranges in order, none of them touching another."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        elif first <= last:
            merged.append((first, last))
    return merged
