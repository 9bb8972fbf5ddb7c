"""The tools that read, write and edit files: read, write, edit, ls."""

import threading
from base64 import b64encode
from codecs import BOM_UTF8
from typing import Any

from actors.models.base import ToolSpec
from actors.session.messages import Image, Text
from actors.tools._arguments import PATH, count, schema, whole_number
from actors.tools._diff import first_changed_line, unified_diff
from actors.tools._text import NOTE_CHARACTERS, joined, readable, shown
from actors.tools.base import Effect, ToolContext, ToolError, ToolResult, said
from actors.tools.workspace import Entry, Workspace

READ_LINES = 2_000
LISTED_ENTRIES = 500
IMAGE_BYTES_MAX = 3_750_000
"""As base64 it is 5 MB, the most that providers take."""
BINARY_LOOKED_AT = 8_192

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class Read:
    """Shows a text file, or a part of it, or a picture. Implements Tool."""

    spec = ToolSpec(
        "read",
        "Read a file. Text is shown as it is, at most "
        f"{READ_LINES} lines at once; use offset and limit for the rest of a long file. "
        "PNG, JPEG, GIF and WebP files are shown as pictures.",
        schema(
            {
                "path": PATH,
                "offset": count("The line to begin with, from 1."),
                "limit": count("How many lines to show at most."),
            },
            "path",
        ),
    )
    effect: Effect = "read"

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run."""
        path = arguments["path"]
        data = Workspace(context.workspace).read(path, context.limits.file_bytes)
        media_type = media_type_of(data)
        if media_type:
            return _picture(path, data, media_type)
        if b"\x00" in data[:BINARY_LOOKED_AT]:
            raise ToolError(f"{shown(path)} is a binary file of {len(data)} bytes.")
        return _window(
            data.removeprefix(BOM_UTF8).decode("utf-8", "replace").replace("\r\n", "\n"),
            whole_number(arguments, "offset", 1),
            whole_number(arguments, "limit", READ_LINES),
            context.limits.output_chars - NOTE_CHARACTERS,
        )


class Write:
    """Makes a file hold a text. Implements Tool."""

    spec = ToolSpec(
        "write",
        "Write a file: it is made, or replaced as a whole. Folders on the way are made. "
        "To change a part of a file use edit.",
        schema({"path": PATH, "content": {"type": "string"}}, "path", "content"),
    )
    effect: Effect = "write"

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run."""
        path = arguments["path"]
        data = _encoded(arguments["content"], context.limits.file_bytes)
        context.cancellation.check()
        Workspace(context.workspace).write(path, data)
        return said(f"Wrote {len(data)} bytes to {shown(path)}.")


class Edit:
    """Replaces a text in a file. Edits take turns: each sees what the one before wrote.

    Line ends, a byte order mark and permissions are kept. Implements Tool.
    """

    spec = ToolSpec(
        "edit",
        "Replace text in a file. oldText has to be in the file exactly, white space "
        "included, and only once; give more of the lines around it to tell one place from "
        "another, or replaceAll to change all of them.",
        schema(
            {
                "path": PATH,
                "oldText": {"type": "string", "minLength": 1},
                "newText": {"type": "string"},
                "replaceAll": {"type": "boolean", "description": "Change every place."},
            },
            "path",
            "oldText",
            "newText",
        ),
    )
    effect: Effect = "write"

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run."""
        workspace, path = Workspace(context.workspace), arguments["path"]
        bytes_max = context.limits.file_bytes
        with self._turn:
            before = _decoded(path, workspace.read(path, bytes_max))
            after, places = _replaced(path, before, arguments, bytes_max)
            context.cancellation.check()
            workspace.write(path, _encoded(after, bytes_max))
        old, new = _lines(before), _lines(after)
        details = {
            "diff": unified_diff(shown(path), old, new),
            "first_changed_line": first_changed_line(old, new),
        }
        where = "1 place" if places == 1 else f"{places} places"
        return said(f"Changed {where} in {shown(path)}.", details)


class Ls:
    """Lists a folder. Implements Tool."""

    spec = ToolSpec(
        "ls",
        "List a folder by name, hidden files included. The names of folders end with /.",
        schema({"path": PATH, "limit": count(f"How many to show, {LISTED_ENTRIES} by default.")}),
    )
    effect: Effect = "read"

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run."""
        workspace = Workspace(context.workspace)
        limit = whole_number(arguments, "limit", LISTED_ENTRIES)
        folder = workspace.folder(arguments.get("path") or ".")
        room = context.limits.output_chars - NOTE_CHARACTERS
        lines: list[str] = []
        for entry in folder.entries[:limit]:
            context.cancellation.check()
            line = readable(entry.name) + ("/" if _is_folder(workspace, entry) else "")
            room -= len(line) + 1
            if room < 0:
                break
            lines.append(line)
        notes = []
        if len(lines) < len(folder.entries) or not folder.whole:
            known = f"{len(folder.entries)}" if folder.whole else "more"
            notes.append(f"{len(lines)} of {known} entries are shown.")
        return said(joined("\n".join(lines) or "The folder is empty.", notes))


def media_type_of(data: bytes) -> str:
    """Return the media type of a picture by its first bytes; empty for anything else."""
    for signature, media_type in _SIGNATURES:
        if data.startswith(signature):
            return media_type
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def _picture(path: str, data: bytes, media_type: str) -> ToolResult:
    if len(data) > IMAGE_BYTES_MAX:
        raise ToolError(
            f"{shown(path)} is a picture of {len(data)} bytes; "
            f"no more than {IMAGE_BYTES_MAX} can be shown."
        )
    text = f"{shown(path)}: {media_type}, {len(data)} bytes"
    return ToolResult((Text(text), Image(media_type, b64encode(data).decode())))


def _window(text: str, offset: int, limit: int, characters_max: int) -> ToolResult:
    if not text:
        return said("The file is empty.")
    lines = _lines(text)
    if offset > len(lines):
        raise ToolError(f"The file has {len(lines)} lines; line {offset} is beyond its end.")
    kept: list[str] = []
    room = characters_max
    for line in lines[offset - 1 : offset - 1 + limit]:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    if not kept:
        note = f"Line {offset} has {len(lines[offset - 1])} characters and is cut."
        return said(joined(lines[offset - 1][:characters_max], [note]))
    last = offset - 1 + len(kept)
    note = f"Lines {offset} to {last} of {len(lines)}. Go on with offset {last + 1}."
    return said(joined("\n".join(kept), [note] if last < len(lines) else []))


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _encoded(text: str, bytes_max: int) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise ToolError("The text holds half a character, which can't be written.") from None
    if len(data) > bytes_max:
        raise ToolError(f"A file may have {bytes_max} bytes at most; this has {len(data)}.")
    return data


def _decoded(path: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ToolError(f"{shown(path)} is not UTF-8 text; an edit would damage it.") from None


def _replaced(
    path: str, text: str, arguments: dict[str, Any], characters_max: int
) -> tuple[str, int]:
    """Return the text with the replacement, and in how many places. Raises ToolError."""
    old, new = _as_in(text, arguments["oldText"], arguments["newText"])
    if not old or old == new:
        raise ToolError("oldText and newText have to differ, and oldText can't be empty.")
    if arguments.get("replaceAll"):
        places = text.count(old)
    else:
        first = text.find(old)
        places = 0 if first < 0 else 1 + (text.find(old, first + 1) >= 0)
        if places > 1:
            raise ToolError(
                f"oldText is in {shown(path)} more than once. Give more of the lines around it, "
                "or set replaceAll."
            )
    if not places:
        raise ToolError(f"oldText is not in {shown(path)}. It has to match exactly; read the file.")
    if len(text) + places * (len(new) - len(old)) > characters_max:
        raise ToolError(f"A file may have {characters_max} bytes at most; this would have more.")
    return text.replace(old, new), places


def _as_in(text: str, old: str, new: str) -> tuple[str, str]:
    """Return the texts with the line ends of the file, unless it holds the old one as it is."""
    first_end = text.find("\n")
    if first_end > 0 and text[first_end - 1] == "\r":
        with_ends = [each.replace("\r\n", "\n").replace("\n", "\r\n") for each in (old, new)]
        if with_ends[0] in text:
            return with_ends[0], with_ends[1]
    return old, new


def _is_folder(workspace: Workspace, entry: Entry) -> bool:
    if entry.kind != "link":
        return entry.kind == "folder"
    try:
        workspace.folder(entry.path, 0)
    except ToolError:
        return False
    return True
