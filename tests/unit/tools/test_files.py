from base64 import b64decode
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import pytest

from actors.session.messages import Image, text_of
from actors.tools._diff import unified_diff
from actors.tools.base import (
    Cancellation,
    Tool,
    ToolCancelled,
    ToolContext,
    ToolError,
    ToolLimits,
    ToolResult,
)
from actors.tools.files import IMAGE_BYTES_MAX, Edit, Ls, Read, Write

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 20


class Files:
    """Runs the file tools in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.limits = ToolLimits()
        self.cancellation = Cancellation()
        self.edit_tool = Edit()

    def run(self, tool: Tool, **arguments: Any) -> ToolResult:
        jsonschema.validate(arguments, tool.spec.parameters)
        context = ToolContext(
            self.root, "key", "prompt", "call", self.cancellation, print, self.limits
        )
        return tool.run(arguments, context)

    def read(self, path: str, **arguments: Any) -> str:
        return text_of(self.run(Read(), path=path, **arguments).content)

    def write(self, path: str, content: str) -> str:
        return text_of(self.run(Write(), path=path, content=content).content)

    def edit(self, old: str, new: str, **arguments: Any) -> ToolResult:
        return self.run(self.edit_tool, path="file", oldText=old, newText=new, **arguments)

    def ls(self, **arguments: Any) -> str:
        return text_of(self.run(Ls(), **arguments).content)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("tool", [Read(), Write(), Edit(), Ls()])
def test_the_tools_say_what_they_take_and_do(tool: Tool) -> None:
    jsonschema.Draft202012Validator.check_schema(tool.spec.parameters)
    assert tool.spec.parameters["additionalProperties"] is False
    assert tool.effect == ("read" if tool.spec.name in ("read", "ls") else "write")


def test_what_is_written_can_be_read(files: Files) -> None:
    assert files.write("a/b/file", "one\ntwö\n") == "Wrote 9 bytes to a/b/file."
    assert files.read("a/b/file") == "one\ntwö"
    assert (files.root / "a/b/file").read_bytes() == "one\ntwö\n".encode()


def test_a_long_file_is_read_in_parts_and_told_how_to_go_on(files: Files) -> None:
    files.write("file", "".join(f"line {number}\n" for number in range(1, 5_001)))
    assert files.read("file", offset=2, limit=2.0) == (
        "line 2\nline 3\n\n[Lines 2 to 3 of 5000. Go on with offset 4.]"
    )
    assert files.read("file").endswith("[Lines 1 to 2000 of 5000. Go on with offset 2001.]")
    assert files.read("file", offset=4_999) == "line 4999\nline 5000"
    with pytest.raises(ToolError, match="has 5000 lines; line 5001 is beyond"):
        files.read("file", offset=5_001)


def test_no_more_is_read_than_a_tool_may_say_and_nothing_is_skipped(files: Files) -> None:
    files.limits = ToolLimits(output_chars=1_000)
    lines = [f"{number} " + "x" * 90 for number in range(30)]
    files.write("file", "\n".join(lines))
    offset, seen = 1, []
    while offset <= len(lines):
        text = files.read("file", offset=offset)
        assert len(text) <= 1_000
        shown = text.split("\n\n[")[0].split("\n")
        seen += shown
        offset += len(shown)
    assert seen == lines


def test_a_line_that_is_too_long_is_cut_and_said_to_be(files: Files) -> None:
    files.limits = ToolLimits(output_chars=1_000)
    files.write("file", "y\n" + "x" * 5_000)
    text = files.read("file", offset=2)
    assert text.endswith("x\n\n[Line 2 has 5000 characters and is cut.]")
    assert len(text) <= 1_000


def test_text_is_read_whatever_its_line_ends_and_broken_bytes(files: Files) -> None:
    (files.root / "file").write_bytes(b"\xef\xbb\xbfone\r\ntw\xff\r\n")
    assert files.read("file") == "one\ntw\ufffd"
    files.write("empty", "")
    assert files.read("empty") == "The file is empty."


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"GIF89a\x01\x00", "image/gif"),
        (b"GIF87a\x01\x00", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
def test_pictures_are_shown_as_pictures_whatever_their_name(
    files: Files, data: bytes, media_type: str
) -> None:
    (files.root / "picture.txt").write_bytes(data)
    _, picture = files.run(Read(), path="picture.txt").content
    assert isinstance(picture, Image)
    assert picture.media_type == media_type
    assert b64decode(picture.data) == data


def test_what_can_not_be_shown_is_refused(files: Files) -> None:
    (files.root / "binary").write_bytes(b"MZ\x00\x01")
    (files.root / "large.png").write_bytes(PNG.ljust(IMAGE_BYTES_MAX + 1))
    (files.root / "huge").write_bytes(b"x" * (files.limits.file_bytes + 1))
    (files.root / "folder").mkdir()
    for path, sentence in {
        "binary": "binary is a binary file of 4 bytes",
        "large.png": "no more than 3750000 can be shown",
        "huge": "huge is larger than 10485760 bytes",
        "folder": "folder is a folder",
        "missing": "missing does not exist",
        "../outside": "outside the workspace",
    }.items():
        with pytest.raises(ToolError, match=sentence):
            files.read(path)


def test_an_edit_changes_one_place_and_shows_the_difference(files: Files) -> None:
    files.write("file", "".join(f"{number}\n" for number in range(1, 21)))
    result = files.edit("10\n11\n", "ten\n11\nand a half\n")
    assert text_of(result.content) == "Changed 1 place in file."
    assert files.read("file", offset=9, limit=5).startswith("9\nten\n11\nand a half\n12\n")
    assert result.details == {
        "diff": (
            "--- a/file\n+++ b/file\n@@ -7,8 +7,9 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n"
            "+and a half\n 12\n 13\n 14\n"
        ),
        "first_changed_line": 10,
    }


def test_an_edit_of_what_is_not_there_or_not_once_changes_nothing(files: Files) -> None:
    files.write("file", "aaa\nb\nb\n")
    for old, new, sentence in [
        ("c", "d", "oldText is not in file"),
        ("b", "d", "oldText is in file more than once"),
        ("aa", "d", "more than once"),  # the two overlap
        ("aaa", "aaa", "have to differ"),
    ]:
        with pytest.raises(ToolError, match=sentence):
            files.edit(old, new)
    assert files.read("file") == "aaa\nb\nb"


def test_all_places_are_changed_when_that_is_asked_for(files: Files) -> None:
    files.write("file", "b\n" + "x\n" * 20 + "b b\n")
    result = files.edit("b", "bb", replaceAll=True)
    assert text_of(result.content) == "Changed 3 places in file."
    assert (files.root / "file").read_text() == "bb\n" + "x\n" * 20 + "bb bb\n"
    assert result.details["diff"].count("@@ -") == 2
    with pytest.raises(ToolError, match="oldText is not in"):
        files.edit("y", "z", replaceAll=True)


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"\xef\xbb\xbfa\r\nb\r\nc\r\n", "a\nb", "a\nx\ny", b"\xef\xbb\xbfa\r\nx\r\ny\r\nc\r\n"),
        (b"a\r\nb\r\n", "b", "x\ny", b"a\r\nx\r\ny\r\n"),
        (b"a\r\nb\r\n", "a\r\nb", "x\r\ny", b"x\r\ny\r\n"),
        (b"a\r\nb\nc\n", "b\nc", "x\ny", b"a\r\nx\ny\n"),
        (b"a\nb\r\n", "a", "x\ny", b"x\ny\nb\r\n"),
        (b"no end", "end", "\n", b"no \n"),
    ],
)
def test_line_ends_and_a_byte_order_mark_are_kept(
    files: Files, before: bytes, old: str, new: str, after: bytes
) -> None:
    (files.root / "file").write_bytes(before)
    files.edit(old, new)
    assert (files.root / "file").read_bytes() == after


def test_what_an_edit_or_a_write_would_damage_is_refused(files: Files) -> None:
    (files.root / "file").write_bytes(b"caf\xe9\n")
    with pytest.raises(ToolError, match="file is not UTF-8 text"):
        files.edit("caf", "tea")
    with pytest.raises(ToolError, match="half a character"):
        files.write("file", "\ud800")
    assert (files.root / "file").read_bytes() == b"caf\xe9\n"


def test_no_file_grows_beyond_the_limit(files: Files) -> None:
    files.limits = ToolLimits(file_bytes=1_000_000)
    files.write("file", "a" * 1_000_000)
    with pytest.raises(ToolError, match="1000000 bytes at most"):
        files.edit("a", "b" * 900_000, replaceAll=True)  # 900 GB
    with pytest.raises(ToolError, match="1000000 bytes at most; this has 1000002"):
        files.write("file", "ä" * 500_001)
    with pytest.raises(ToolError, match="at most"):
        files.edit("a", "ä", replaceAll=True)


def test_edits_at_once_are_all_made(files: Files) -> None:
    files.write("file", "".join(f"<{number}>\n" for number in range(50)))
    threads = [
        Thread(target=files.edit, args=(f"<{number}>", f"[{number}]")) for number in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files.read("file") == "\n".join(f"[{number}]" for number in range(50))


def test_a_tool_that_was_cancelled_writes_nothing(files: Files) -> None:
    files.write("file", "a")
    files.cancellation.cancel()
    with pytest.raises(ToolCancelled):
        files.write("file", "b")
    with pytest.raises(ToolCancelled):
        files.edit("a", "b")
    assert files.read("file") == "a"


def test_a_diff_of_a_file_that_changed_all_over_is_quick_and_cut() -> None:
    before = [str(number % 1_000) for number in range(100_000)]
    after = [str(number % 999) for number in range(100_000)]
    text = unified_diff("file", before, after)  # a full comparison would take hours
    assert text.startswith("--- a/file\n+++ b/file\n@@ -997,9900")
    assert text.endswith("the diff goes on\n")


def test_a_folder_is_listed_by_name_with_hidden_files_and_slashes(files: Files) -> None:
    for path in ("b.txt", "a/file", ".hidden", "odd\nname"):
        files.write(path, "")
    (files.root / "inside").symlink_to("a")
    (files.root / "outside").symlink_to("..")
    assert files.ls() == ".hidden\na/\nb.txt\ninside/\nodd\ufffdname\noutside"
    assert files.ls(path="inside") == "file"
    assert files.ls(limit=2) == ".hidden\na/\n\n[2 of 6 entries are shown.]"
    (files.root / "empty").mkdir()
    assert files.ls(path="empty") == "The folder is empty."
    with pytest.raises(ToolError, match=r"b\.txt is not a folder"):
        files.ls(path="b.txt")


def test_a_listing_is_no_longer_than_a_tool_may_say(files: Files) -> None:
    files.limits = ToolLimits(output_chars=1_000)
    for number in range(100):
        files.write(f"{'x' * 20}{number}", "")
    text = files.ls()
    assert len(text) <= 1_000
    assert text.endswith("of 100 entries are shown.]")
