"""Patterns that a model or a file in the workspace may choose: none can hang the process.

RE2 takes time in proportion to a text's length times the pattern's size, so both are bounded.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Protocol

import re2  # type: ignore[import-untyped]
from msgspec import Struct
from pathspec import GitIgnoreSpec

from actors.tools._text import readable
from actors.tools.base import ToolError

PATTERN_CHARACTERS_MAX = 1_000
PROGRAM_MAX = 2_500
STEPS_MAX = 20_000_000
"""How much RE2 does at a stretch: about a tenth of a second."""
CHUNK_BYTES_MAX = 65_536

IGNORE_BYTES_MAX = 65_536
IGNORE_CHARACTERS_MAX = 16_384
"""What counts of a file, comments aside; each line counts for a few more than it has."""
IGNORE_LINE_CHARACTERS = 16

_GLOB_PART = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|\\.|.", re.DOTALL)
_GLOB_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class _Match(Protocol):
    def start(self) -> int:
        """Return where it begins."""


class _Regexp(Protocol):
    """What RE2 compiles, as far as it is used here."""

    programsize: int

    def search(self, text: bytes, at: int) -> _Match | None:
        """Return the first match."""

    def fullmatch(self, text: str) -> _Match | None:
        """Match the whole text."""


class Hit(Struct, frozen=True):
    """A line that matches: its number, and the byte in it where the match begins, from 0."""

    line: int
    column: int


class LinePattern:
    """Finds lines. A line longer than a chunk, 8 to 64 KiB, is searched in pieces."""

    def __init__(self, pattern: str, *, ignore_case: bool, literal: bool) -> None:
        if "\n" in pattern:
            raise ToolError("The pattern holds a line end, but lines are searched one by one.")
        _check(pattern)
        regexp = re2.escape(pattern) if literal else pattern
        self._regexp = _compiled("(?m)" + regexp, case_sensitive=not ignore_case)
        self._chunk_bytes = min(CHUNK_BYTES_MAX, STEPS_MAX // self._regexp.programsize)

    def hits(self, text: bytes) -> Iterator[Hit | None]:
        """Yield the lines that match, in order, each once, and None after each chunk."""
        begin, line, last = 0, 0, -1
        while begin < len(text):
            end = _chunk_end(text, begin, self._chunk_bytes)
            chunk = text[begin:end]
            for number, offset in self._hits_in(chunk.removesuffix(b"\n")):
                if line + number > last:
                    last = line + number
                    line_begin = text.rfind(b"\n", 0, begin + offset) + 1
                    yield Hit(last, begin + offset - line_begin)
            yield None
            begin, line = end, line + chunk.count(b"\n")

    def _hits_in(self, chunk: bytes) -> Iterator[tuple[int, int]]:
        """Yield the number of each line that matches, and the byte where its match begins."""
        at, counted, line = 0, 0, 0
        while found := self._regexp.search(chunk, at):
            offset = found.start()
            line += chunk.count(b"\n", counted, offset)
            counted = offset
            yield line, offset
            at = chunk.find(b"\n", offset) + 1
            if not at:
                return


class Glob:
    """Matches paths: the last name where the pattern holds no slash, else the whole path."""

    def __init__(self, pattern: str) -> None:
        _check(pattern)
        cleaned = pattern.removeprefix("./").removeprefix("/")
        named = cleaned.rstrip("/")
        self._whole = "/" in named
        self._folders_only = named != cleaned
        self._regexp = _compiled("(?s)" + _regexp_of_glob(named))

    def matches(self, path: str, *, folder: bool = False) -> bool:
        """Tell whether it matches a path; one that ends with a slash matches folders only."""
        if self._folders_only and not folder:
            return False
        named = readable(path if self._whole else path.rpartition("/")[2])
        return self._regexp.fullmatch(named) is not None


class IgnoreRules(Struct, frozen=True):
    """What the .gitignore files above a path say; ``specs`` are by their folder, deepest first."""

    specs: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    def with_file(self, folder: str, data: bytes) -> "IgnoreRules":
        """Return the rules together with those of a folder's file; the root is "."."""
        return IgnoreRules(((folder, _ignore_spec(data)), *self.specs))

    def ignore(self, path: str, *, folder: bool) -> bool:
        """Tell whether Git would overlook something whose folder it does not."""
        named = path + "/" if folder else path
        for place, spec in self.specs:
            inside = named if place == "." else named[len(place) + 1 :]
            decision = spec.check_file(readable(inside)).include  # the deepest has the say
            if decision is not None:
                return bool(decision)
        return False


def _compiled(pattern: str, *, case_sensitive: bool = True) -> _Regexp:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.never_nl = True
    options.case_sensitive = case_sensitive
    try:
        regexp: _Regexp = re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0].decode("utf-8", "replace")
        raise ToolError(
            f"The pattern can't be used: {why}. Patterns are RE2's, without look-around and "
            "back-references."
        ) from error
    finally:
        re2.purge()  # what it caches may take megabytes each
    if regexp.programsize > PROGRAM_MAX:
        raise ToolError("The pattern is too large. Use fewer repetitions.")
    return regexp


def _check(pattern: str) -> None:
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise ToolError(f"A pattern has {PATTERN_CHARACTERS_MAX} characters at most.")
    try:
        pattern.encode()
    except UnicodeEncodeError:
        raise ToolError("The pattern holds half a character.") from None


def _chunk_end(text: bytes, begin: int, size: int) -> int:
    """Return where a chunk ends: after a line where one ends in it."""
    if begin + size >= len(text):
        return len(text)
    return text.rfind(b"\n", begin, begin + size) + 1 or begin + size


def _regexp_of_glob(pattern: str) -> str:
    parts: list[str] = []
    depth = 0
    for part in _GLOB_PART.findall(pattern):
        if part == "{":
            parts.append("(?:")
            depth += 1
        elif part == "}" and depth:
            parts.append(")")
            depth -= 1
        elif part == "," and depth:
            parts.append("|")
        else:
            parts.append(_part_of_glob(part))
    if depth:
        raise ToolError("The pattern has a { without its }.")
    return "".join(parts)


def _part_of_glob(part: str) -> str:
    if part in _GLOB_WILD:
        return _GLOB_WILD[part]
    if part[0] == "[" and len(part) > 1:
        negated = part[1] in "!^"
        inside = re.sub(r"([\[\]\\^])", r"\\\1", part[1 + negated : -1])
        return f"[^/{inside}]" if negated else f"[{inside}]"
    return re.escape(part[-1])


def _ignore_spec(data: bytes) -> GitIgnoreSpec:
    text = data.removeprefix(BOM_UTF8).decode("utf-8", "replace")
    lines: list[str] = []
    room = IGNORE_CHARACTERS_MAX
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            room -= len(line) + IGNORE_LINE_CHARACTERS
            if room < 0:
                break
            lines.append(line)
    spec = _spec_of(lines)
    if spec is None:  # a line that makes no sense counts for nothing, the others do
        spec = _spec_of([line for line in lines if _spec_of([line]) is not None])
    return spec or GitIgnoreSpec([])


def _spec_of(lines: list[str]) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines(lines, backend="re2")
    except (ValueError, re.error, re2.error, Warning):
        return None
