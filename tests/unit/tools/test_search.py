import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest

from actors.session.messages import text_of
from actors.tools.base import (
    Cancellation,
    Tool,
    ToolCancelled,
    ToolContext,
    ToolError,
    ToolLimits,
)
from actors.tools.search import Find, Grep

DEADLINE_S = 60
HARD = "(a|b)*a(a|b){150}c"
"""Has more states than any cache."""


def a_and_b(size: int) -> bytes:
    """Return lines of random letters."""
    letters = bytes([10]) + b"ab" * 128
    return Random(1).randbytes(size).translate(letters[:256])


class Searches:
    """Runs the search tools in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.limits = ToolLimits()
        self.cancellation = Cancellation()

    def put(self, path: str, content: str | bytes = "") -> None:
        where = self.root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(content if isinstance(content, bytes) else content.encode())

    def run(self, tool: Tool, **arguments: Any) -> str:
        jsonschema.validate(arguments, tool.spec.parameters)
        context = ToolContext(
            self.root, "key", "prompt", "call", self.cancellation, print, self.limits
        )
        return text_of(tool.run(arguments, context).content)

    def grep(self, pattern: str, **arguments: Any) -> list[str]:
        return self.run(Grep(), pattern=pattern, **arguments).split("\n")

    def find(self, pattern: str, **arguments: Any) -> list[str]:
        return self.run(Find(), pattern=pattern, **arguments).split("\n")


@pytest.fixture
def searches(tmp_path: Path) -> Searches:
    return Searches(tmp_path)


@pytest.mark.parametrize("tool", [Grep(), Find()])
def test_the_tools_say_what_they_take_and_do(tool: Tool) -> None:
    jsonschema.Draft202012Validator.check_schema(tool.spec.parameters)
    assert tool.spec.parameters["additionalProperties"] is False
    assert tool.effect == "read"


def test_lines_that_match_are_shown_with_their_place(searches: Searches) -> None:
    searches.put("b.py", "import os\r\n\r\nprint(os.name)\r\n")
    searches.put("a/c.py", "no\nimport sys")
    assert searches.grep("^import|os") == [
        "b.py:1: import os",
        "b.py:3: print(os.name)",
        "a/c.py:2: import sys",
    ]
    assert searches.grep("os$") == ["b.py:1: import os"]
    assert searches.grep("^$") == ["b.py:2: "]
    assert searches.grep("sys", path="a") == ["a/c.py:2: import sys"]
    assert searches.grep("sys", path="a/c.py", glob="*.txt") == ["a/c.py:2: import sys"]
    assert searches.grep("nothing of it") == ["No line matches."]


def test_a_pattern_may_be_plain_text_and_of_any_case(searches: Searches) -> None:
    searches.put("file", "a.b(\nA.B(\naxb(\nÄ\n")
    assert searches.grep("a.b(", literal=True) == ["file:1: a.b("]
    assert searches.grep("a.b(", literal=True, ignoreCase=True) == ["file:1: a.b(", "file:2: A.B("]
    assert searches.grep("ä", ignoreCase=True) == ["file:4: Ä"]
    with pytest.raises(ToolError, match=r"missing \).*without look-around"):
        searches.grep("a.b(")
    with pytest.raises(ToolError, match="look-around"):
        searches.grep("(?<=a)b")


def test_lines_around_matches_are_shown_once(searches: Searches) -> None:
    searches.put("a", "".join(f"{number}\n" for number in range(1, 21)))
    searches.put("b", "2\n")
    assert searches.grep("^(2|4|12|20)$", context=1) == [
        "a-1- 1",
        "a:2: 2",
        "a-3- 3",
        "a:4: 4",
        "a-5- 5",
        "--",
        "a-11- 11",
        "a:12: 12",
        "a-13- 13",
        "--",
        "a-19- 19",
        "a:20: 20",
        "--",
        "b:1: 2",
    ]


def test_a_glob_chooses_the_files(searches: Searches) -> None:
    for path in ("src/a.ts", "src/deep/b.ts", "src/c.py", "d.ts"):
        searches.put(path, "x")
    found = {
        glob: [line.split(":")[0] for line in searches.grep("x", glob=glob)]
        for glob in ("*.ts", "src/*.ts", "src/**/*.ts", "*.{py,tsx}", "[a-b].ts", "[!a-b].*")
    }
    assert found == {
        "*.ts": ["d.ts", "src/a.ts", "src/deep/b.ts"],
        "src/*.ts": ["src/a.ts"],
        "src/**/*.ts": ["src/a.ts", "src/deep/b.ts"],
        "*.{py,tsx}": ["src/c.py"],
        "[a-b].ts": ["src/a.ts", "src/deep/b.ts"],
        "[!a-b].*": ["d.ts", "src/c.py"],
    }


def test_files_and_folders_are_found_by_name_or_path(searches: Searches) -> None:
    for path in ("src/app.py", "src/tests/test_app.py", "README.md", ".hidden/x.md", "a[1].md"):
        searches.put(path)
    assert searches.find("*.py") == ["src/app.py", "src/tests/test_app.py"]
    assert searches.find("*.md") == ["README.md", "a[1].md", ".hidden/x.md"]
    assert searches.find("tests") == searches.find("tests/") == ["src/tests/"]
    assert searches.find("**/tests/**") == ["src/tests/test_app.py"]
    assert searches.find("tests/*", path="src") == ["src/tests/test_app.py"]
    assert searches.find("a\\[?].md") == ["a[1].md"]
    assert searches.find(".hidden") == [".hidden/"]
    deep = "/".join(["d" * 200] * 4)
    searches.put(f"{deep}/end", "x")
    assert searches.find("**/end") == [f"{deep}/end"]
    assert searches.grep("x") == [f"{deep}/end:1: x"]
    assert searches.find("nothing") == ["Nothing matches."]
    for pattern in ("{a", "[z-a]", "[]"):
        with pytest.raises(ToolError):
            searches.find(pattern) and searches.find("{" + pattern)


def test_what_git_overlooks_is_left_out(searches: Searches) -> None:
    searches.put(".gitignore", "*.log\n/build/\n# comment\n\n!kept.log\nsub/only\n")
    searches.put("sub/.gitignore", "*.txt\n!deep/\n!good.log\n")
    for path in (
        "a.log", "kept.log", "build/x", "sub/build/x", "sub/only", "sub/a.txt", "a.txt",
        "sub/good.log", "sub/deep/b.txt", ".git/x", "sub/.git/x",
        ".sessiond/output/x.txt",
    ):  # fmt: skip
        searches.put(path, "x")
    expected = ["a.txt", "kept.log", "sub/good.log", "sub/build/x"]
    assert searches.grep("^x$") == [f"{path}:1: x" for path in expected]
    assert [each for each in searches.find("*") if "gitignore" not in each and each[-1] != "/"] == (
        expected
    )


def test_what_is_asked_for_by_name_is_searched_though_git_overlooks_it(
    searches: Searches,
) -> None:
    searches.put(".gitignore", "build\n*.log\n")
    searches.put("build/x.log", "x")
    searches.put("src/a.log", "x")
    searches.put("src/b", "x")
    searches.put(".sessiond/output/call.txt", "x")
    assert searches.grep("x", path="build") == ["build/x.log:1: x"]
    assert searches.grep("x", path="src/a.log") == ["src/a.log:1: x"]
    assert searches.grep("x", path="src") == ["src/b:1: x"]
    assert searches.grep("x", path=".sessiond/output") == [".sessiond/output/call.txt:1: x"]


def test_an_ignore_file_that_makes_no_sense_is_taken_for_what_it_is(searches: Searches) -> None:
    searches.put(".gitignore", b"[z-a]\n[[a]\n[[:nope:]]\n\\\n!\n/\n\xff\nout\n" + b"*a" * 99)
    searches.put("a", "x")
    searches.put("out/b", "x")
    assert searches.grep("x") == ["a:1: x"]


def test_nothing_outside_is_searched(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("canary")
    searches = Searches(tmp_path / "workspace")
    searches.put("file", "canary")
    (searches.root / "link").symlink_to("../outside/secret")
    (searches.root / "folder").symlink_to("../outside")
    (searches.root / "sub").mkdir()
    (searches.root / "sub/.gitignore").symlink_to("../../outside/secret")
    assert searches.grep("canary") == ["file:1: canary"]
    assert searches.find("secret") == ["Nothing matches."]
    for path in ("..", "link", "folder", str(tmp_path), "folder/secret"):
        with pytest.raises(ToolError, match="outside the workspace"):
            searches.grep("canary", path=path)
        with pytest.raises(ToolError, match="outside the workspace"):
            searches.find("*", path=path)


def test_binary_and_large_files_are_not_searched(searches: Searches) -> None:
    searches.limits = ToolLimits(file_bytes=1_000)
    searches.put("binary", b"x\x00x")
    searches.put("large", "x\n" * 600)
    searches.put("exact", "y" * 999 + "x")
    lines = searches.grep("x", path=".")
    assert lines[0].startswith("exact:1: …")
    assert lines[-1] == "[Not searched for being larger than 1000 bytes: 1 files.]"


def test_there_are_no_more_results_than_asked_for_and_than_may_be_said(
    searches: Searches,
) -> None:
    searches.put("file", "match\n" * 500)
    assert searches.grep("m", limit=2) == [
        "file:1: match",
        "file:2: match",
        "",
        "[The first 2 are shown; there are more.]",
    ]
    assert "[The first 100 are shown; there are more.]" in searches.grep("m")
    searches.limits = ToolLimits(output_chars=2_000)
    assert len("\n".join(searches.grep("m", limit=500))) <= 2_000
    for number in range(300):
        searches.put(f"found{number}")
    assert len("\n".join(searches.find("found*"))) <= 2_000
    assert searches.find("found1?", limit=3)[-1] == "[The first 3 are shown; there are more.]"
    assert len(searches.grep("m", limit=500, path="file")) < 500


def test_a_long_line_is_cut_around_what_matches(searches: Searches) -> None:
    searches.put("file", "a\n" + "x" * 5_000 + "needle" + "y" * 5_000 + "\nneedle\n")
    long, short = searches.grep("needle")
    assert long.startswith("file:2: …xxx")
    assert long.endswith("yyy…")
    assert "needle" in long
    assert len(long) < 520
    assert short == "file:3: needle"


def test_lines_keep_their_numbers_through_a_large_file(searches: Searches) -> None:
    lines = ["filler " + "z" * (number % 200) for number in range(5_000)]
    for number in (0, 1, 700, 3_333, 4_999):
        lines[number] += " here"
    lines[1_000] = "w" * 200_000 + " here " + "w" * 200_000 + " here"
    searches.put("file", "\n".join(lines))
    numbers = [int(line.split(":")[1]) for line in searches.grep(" here")]
    assert numbers == [1, 2, 701, 1_001, 3_334, 5_000]


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|a)*b", "(a*)*(a*)*(a*)*c", "(.*a){12}b", HARD],
)
def test_no_pattern_hangs_the_process(searches: Searches, pattern: str) -> None:
    searches.put("file", a_and_b(100_000) + b"a" * 50_000)
    began = time.monotonic()
    searches.grep(pattern, limit=1)
    assert time.monotonic() - began < DEADLINE_S


def test_patterns_that_are_too_large_are_refused(searches: Searches) -> None:
    searches.put("file", "x")
    for pattern in ("(.{0,100}){9}", "((a{0,50}){0,50}){0,50}", "x" * 1_001, "\ud800", "a\nb"):
        with pytest.raises(ToolError):
            searches.grep(pattern)
    for pattern in ("[" * 200_000, "{a," * 5_000, "*" * 2_000):
        with pytest.raises(ToolError):
            searches.find(pattern)


def test_no_glob_and_no_ignore_file_hangs_the_process(searches: Searches) -> None:
    hard = "*a" * 90
    searches.put(".gitignore", f"{hard}b\n" * 100 + "**/" * 60 + "z\n")
    for number in range(20):
        searches.put("a" * 200 + str(number), "x")
    began = time.monotonic()
    searches.find(f"{hard}b")
    searches.grep("x", glob=f"{hard}b")
    assert time.monotonic() - began < DEADLINE_S


def test_a_search_ends_when_it_is_cancelled_or_takes_too_long(searches: Searches) -> None:
    for number in range(300):
        searches.put(f"{number}", "x" * 1_000)
    searches.limits = ToolLimits(timeout_s=0)
    with pytest.raises(ToolError, match="took more than 0 s"):
        searches.grep("y")
    searches.limits = ToolLimits()
    searches.cancellation.cancel()
    for search in (searches.grep, searches.find):
        with pytest.raises(ToolCancelled):
            search("y")


def test_a_search_that_goes_on_is_cancelled_at_once(searches: Searches) -> None:
    searches.limits = ToolLimits(file_bytes=100_000_000)
    searches.put("file", a_and_b(20_000_000))
    outcome: list[BaseException] = []

    def search() -> None:
        try:
            searches.grep(HARD)
        except BaseException as error:  # noqa: BLE001 - shown below
            outcome.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive(), outcome
    searches.cancellation.cancel()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert [type(each) for each in outcome] == [ToolCancelled]


UNDER_GEVENT = """
from persistence.native import patch
patch()
import sys, threading, time
from tests.unit.tools.test_search import Searches, Path
searches = Searches(Path(sys.argv[1]))
ticks, done = [], []
def tick():
    while not done:
        ticks.append(time.monotonic())
        time.sleep(0.001)
threading.Thread(target=tick).start()
time.sleep(0.01)
began = len(ticks)
searches.grep("nowhere to be found")
searches.find("nowhere")
done.append(1)
print(len(ticks) - began)
"""


def test_others_get_their_turn_while_a_large_tree_is_searched_under_gevent(
    searches: Searches,
) -> None:
    for number in range(1_000):
        searches.put(f"{number % 50}/{number}", "some text\n" * 100)
    answer = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT, str(searches.root)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(answer.stdout) >= 10
