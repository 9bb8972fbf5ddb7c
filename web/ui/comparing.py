"""Two sessions, or runs, beside each other: message by message, line by line. Pure."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import zip_longest

from msgspec import Struct

from web.ui.bubbles import Bubble, DiffLine

LINES_MAX = 300
"""More lines that may differ are not compared one by one: that takes time in their square."""

Lines = tuple[DiffLine, ...]


class Pair(Struct, frozen=True):
    """Two messages at the same place; None where one side has none there."""

    mine: Bubble | None
    theirs: Bubble | None
    mine_lines: Lines
    theirs_lines: Lines
    same: bool


def pairs(mine: Sequence[Bubble], theirs: Sequence[Bubble]) -> list[Pair]:
    """Return two conversations as pairs of messages, in order."""
    return [_pair(*both) for both in zip_longest(mine, theirs)]


def _pair(mine: Bubble | None, theirs: Bubble | None) -> Pair:
    ours, others = _text(mine), _text(theirs)
    mine_lines, theirs_lines = beside(ours, others)
    same = ours == others and mine is not None and theirs is not None and mine.role == theirs.role
    return Pair(mine, theirs, mine_lines, theirs_lines, same)


def _text(bubble: Bubble | None) -> list[str]:
    if bubble is None:
        return []
    lines: list[str] = []
    for part in bubble.parts:
        if part.label and part.kind != "diff":
            lines.append(f"[{part.label}]")
        lines.extend(part.text.splitlines() if part.kind != "image" else ())
        lines.extend([line.text for line in part.lines])
    return lines


def beside(mine: list[str], theirs: list[str]) -> tuple[Lines, Lines]:
    """Return the lines of both sides: ``del`` where only mine has it, ``add`` only theirs."""
    first = 0
    while first < min(len(mine), len(theirs)) and mine[first] == theirs[first]:
        first += 1
    same = [DiffLine("same", line) for line in mine[:first]]
    rest, others = mine[first:], theirs[first:]
    if max(len(rest), len(others)) > LINES_MAX:
        left, right = _marked(rest, "del"), _marked(others, "add")
    else:
        left, right = _compared(rest, others)
    return (*same, *left), (*same, *right)


def _compared(mine: list[str], theirs: list[str]) -> tuple[list[DiffLine], list[DiffLine]]:
    left: list[DiffLine] = []
    right: list[DiffLine] = []
    matcher = SequenceMatcher(None, mine, theirs, autojunk=False)
    for tag, start, end, their_start, their_end in matcher.get_opcodes():
        left += _marked(mine[start:end], "same" if tag == "equal" else "del")
        right += _marked(theirs[their_start:their_end], "same" if tag == "equal" else "add")
    return left, right


def _marked(lines: list[str], kind: str) -> list[DiffLine]:
    return [DiffLine(kind, line) for line in lines]
