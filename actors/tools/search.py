"""The tools that look for text and for files: grep, find."""

import stat
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Any

from actors.models.base import ToolSpec
from actors.tools._arguments import PATH, count, schema, whole_number
from actors.tools._pattern import Glob, Hit, LinePattern
from actors.tools._text import NOTE_CHARACTERS, joined, readable
from actors.tools._tree import VISITED_MAX, Pace, Tree
from actors.tools.base import Effect, ToolContext, ToolError, ToolResult, said
from actors.tools.workspace import Workspace

MATCHES = 100
FOUND = 1_000
LIMIT_MAX = 10_000
CONTEXT_LINES_MAX = 20
LINE_CHARACTERS_MAX = 500
BINARY_LOOKED_AT = 8_192

_LEFT_OUT = "What .gitignore files name is left out."


class Grep:
    """Looks for lines in files. Implements Tool."""

    spec = ToolSpec(
        "grep",
        "Search the lines of text files for a regular expression (RE2 syntax). Shows "
        f"path:line: text. {_LEFT_OUT}",
        schema(
            {
                "pattern": {"type": "string", "minLength": 1},
                "path": {"type": "string", "description": "A file or folder to search in."},
                "glob": {"type": "string", "description": "Which files, as in *.py or src/**."},
                "ignoreCase": {"type": "boolean"},
                "literal": {"type": "boolean", "description": "The pattern is plain text."},
                "context": {
                    "type": "integer",
                    "minimum": 0,
                    "description": f"Lines around each match, {CONTEXT_LINES_MAX} at most.",
                },
                "limit": count(f"How many matches to show, {MATCHES} by default."),
            },
            "pattern",
        ),
    )
    effect: Effect = "read"

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run."""
        search = _Grep(arguments, context)
        search.run()
        return search.result()


class Find:
    """Looks for files and folders by name. Implements Tool."""

    spec = ToolSpec(
        "find",
        "Find files and folders by a glob pattern such as *.py, src/**/*.ts or *.{png,jpg}. "
        f"Without a slash it is about names, with one about paths. {_LEFT_OUT}",
        schema(
            {
                "pattern": {"type": "string", "minLength": 1},
                "path": PATH,
                "limit": count(f"How many to show, {FOUND} by default."),
            },
            "pattern",
        ),
    )
    effect: Effect = "read"

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run."""
        tree = Tree(Workspace(context.workspace), arguments.get("path") or ".", Pace(context))
        glob = Glob(arguments["pattern"])
        output = _Output(context, min(whole_number(arguments, "limit", FOUND), LIMIT_MAX))
        for entry in tree.entries():
            folder = entry.kind == "folder"
            if glob.matches(tree.inside(entry), folder=folder) and not output.add(
                [readable(entry.path) + ("/" if folder else "")]
            ):
                break
        return output.result("Nothing matches.", tree)


class _Output:
    """What was found so far, up to a number and to the characters that a tool may say."""

    def __init__(self, context: ToolContext, limit: int) -> None:
        self.lines: list[str] = []
        self.found = 0
        self.notes: list[str] = []
        self.left = limit
        self._room = context.limits.output_chars - NOTE_CHARACTERS

    def add(self, lines: list[str]) -> bool:
        """Take what tells of one find; False when there is no room for it, and all is over."""
        size = sum(len(line) + 1 for line in lines)
        if not self.left or size > self._room:
            self.notes.append(f"The first {self.found} are shown; there are more.")
            return False
        self.found += 1
        self.left -= 1
        self._room -= size
        self.lines += lines
        return True

    def result(self, nothing: str, tree: Tree) -> ToolResult:
        """Return what there is to tell."""
        if not tree.whole:
            self.notes.append(
                f"Not everything was looked at: more than {VISITED_MAX} files, or a folder of "
                "very many. Search a smaller folder."
            )
        return said(joined("\n".join(self.lines) or nothing, self.notes), {"found": self.found})


class _Grep:
    """One search for lines."""

    def __init__(self, arguments: dict[str, Any], context: ToolContext) -> None:
        self._pattern = LinePattern(
            arguments["pattern"],
            ignore_case=arguments.get("ignoreCase", False),
            literal=arguments.get("literal", False),
        )
        self._glob = Glob(arguments.get("glob") or "*")
        self._around = min(whole_number(arguments, "context", 0), CONTEXT_LINES_MAX)
        self._output = _Output(context, min(whole_number(arguments, "limit", MATCHES), LIMIT_MAX))
        self._workspace = Workspace(context.workspace)
        self._pace = Pace(context)
        self._tree = Tree(self._workspace, arguments.get("path") or ".", self._pace)
        self._bytes_max = context.limits.file_bytes
        self._too_large = 0

    def run(self) -> None:
        """Search until there is no more, or no more room."""
        for path in self._paths():
            data = self._text_of(path)
            if data is not None and not self._search(path, data):
                return

    def result(self) -> ToolResult:
        """Return what was found."""
        if self._too_large:
            self._output.notes.append(
                f"Not searched for being larger than {self._bytes_max} bytes: "
                f"{self._too_large} files."
            )
        return self._output.result("No line matches.", self._tree)

    def _paths(self) -> Iterator[str]:
        status = self._workspace.stat(self._tree.path)
        if not stat.S_ISDIR(status.st_mode):
            yield self._tree.path
            return
        for entry in self._tree.entries():
            if entry.kind == "file" and self._glob.matches(self._tree.inside(entry)):
                yield entry.path

    def _text_of(self, path: str) -> bytes | None:
        """Return what a text file holds; None for any other, and for one that is too large."""
        try:
            with self._workspace.open_file(path) as file:
                start = file.read(min(BINARY_LOOKED_AT, self._bytes_max))
                if b"\x00" in start:
                    return None
                data = start + file.read(self._bytes_max + 1 - len(start))
        except ToolError:
            if path == self._tree.path:
                raise
            return None
        if len(data) > self._bytes_max:
            self._too_large += 1
            return None
        return data.replace(b"\r\n", b"\n")

    def _search(self, path: str, data: bytes) -> bool:
        """Add the lines of a file that match; False when there is no more room."""
        hits = list(islice(self._hits(data), self._output.left + 1))
        lines = data.removesuffix(b"\n").split(b"\n") if hits else []
        shown_to = 0
        for hit, following in zip_longest(hits, hits[1:]):
            first = max(shown_to, hit.line - self._around)
            apart = self._around and self._output.lines and (first > shown_to or not shown_to)
            shown_to = min(hit.line + self._around + 1, following.line if following else len(lines))
            numbers = range(first, shown_to)
            told = [_line(path, number, lines[number], hit) for number in numbers]
            if not self._output.add(["--", *told] if apart else told):
                return False
        return True

    def _hits(self, data: bytes) -> Iterator[Hit]:
        for hit in self._pattern.hits(data):
            self._pace.keep()
            if hit is not None:
                yield hit


def _line(path: str, number: int, line: bytes, hit: Hit) -> str:
    """Return a line as it is told: where it matches a colon follows its number, else a dash."""
    matches = number == hit.line
    mark = ":" if matches else "-"
    begin = max(0, hit.column - LINE_CHARACTERS_MAX // 4) if matches else 0
    if len(line) <= LINE_CHARACTERS_MAX:
        begin = 0
    cut = line[begin : begin + LINE_CHARACTERS_MAX]
    before, after = "…" if begin else "", "…" if begin + len(cut) < len(line) else ""
    text = f"{before}{cut.decode('utf-8', 'replace')}{after}"
    return f"{readable(path)}{mark}{number + 1}{mark} {text}"
