"""What an edit changed, as a unified diff, in a time that is linear in the size of the file."""

from difflib import SequenceMatcher
from itertools import takewhile

CONTEXT_LINES = 3
COMPARED_LINES_MAX = 1_000
"""More lines that may differ are not compared one by one: that takes time in their square."""
DIFF_CHARACTERS_MAX = 50_000

Opcode = tuple[str, int, int, int, int]


def first_changed_line(before: list[str], after: list[str]) -> int:
    """Return the number of the first line that differs, from 1."""
    return _same_at_start(before, after) + 1


def unified_diff(path: str, before: list[str], after: list[str]) -> str:
    """Return the changes between two lists of lines, which carry no line ends; cut when long."""
    lines = [f"--- a/{path}", f"+++ b/{path}"]
    for group in _groups(before, after):
        lines += _hunk(group, before, after)
    text = "\n".join(lines) + "\n"
    if len(text) <= DIFF_CHARACTERS_MAX:
        return text
    return text[:DIFF_CHARACTERS_MAX] + "\n… the diff goes on\n"


def _groups(before: list[str], after: list[str]) -> list[list[Opcode]]:
    start = max(0, _same_at_start(before, after) - CONTEXT_LINES)
    rest = _same_at_start(before[:start:-1], after[:start:-1])
    tail = max(0, min(rest, len(before) - start, len(after) - start) - CONTEXT_LINES)
    old, new = before[start : len(before) - tail], after[start : len(after) - tail]
    if len(old) + len(new) > COMPARED_LINES_MAX:
        return [[("replace", start, start + len(old), start, start + len(new))]]
    grouped = SequenceMatcher(None, old, new).get_grouped_opcodes(CONTEXT_LINES)
    return [
        [(tag, a + start, b + start, c + start, d + start) for tag, a, b, c, d in group]
        for group in grouped
    ]


def _hunk(group: list[Opcode], before: list[str], after: list[str]) -> list[str]:
    (_, old_from, _, new_from, _), (_, _, old_to, _, new_to) = group[0], group[-1]
    lines = [f"@@ -{_span(old_from, old_to)} +{_span(new_from, new_to)} @@"]
    for tag, a, b, c, d in group:
        if tag == "equal":
            lines += [f" {line}" for line in before[a:b]]
        else:
            lines += [f"-{line}" for line in before[a:b]]
            lines += [f"+{line}" for line in after[c:d]]
    return lines


def _span(begin: int, end: int) -> str:
    count = end - begin
    return f"{begin + 1 if count else begin},{count}"


def _same_at_start(one: list[str], other: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
