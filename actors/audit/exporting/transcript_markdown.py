"""A transcript as Markdown: what was said stands in fences, so that it stays text. Pure."""

import re
from collections.abc import Iterable, Iterator

from actors.audit.exporting.footer import COVERS, PROVES, Footer
from actors.audit.exporting.readable import data_url, shown, shown_line, shown_time
from actors.audit.exporting.transcript import Entry, Piece

FENCE_MIN = 3

_WORDS = re.compile("[A-Za-z]+( [A-Za-z]+)*")


def markdown(key: str, entries: Iterable[Entry], footer: Footer) -> Iterator[str]:
    """Yield the transcript in pieces of an entry each."""
    yield f"# Session {_code(key)}\n\nTimes are in UTC.\n"
    for entry in entries:
        yield "\n" + "\n".join(_entry(entry)) + "\n"
    yield "\n" + "\n".join(_footer(footer)) + "\n"


def _entry(entry: Entry) -> Iterator[str]:
    first, last = entry.seqs
    seqs = f"seq {first}" if first == last else f"seq {first} to {last}"
    who = f", {_code(entry.who)}" if entry.who else ""
    about = f"{shown_time(entry.at)}, {seqs}{who}"
    if entry.kind == "note":
        yield f"*{_plain(entry.title)}* ({about})"
    else:
        yield f"## {_plain(entry.title)}\n\n{about}"
    for piece in entry.pieces:
        yield ""
        yield from _piece(piece)


def _piece(piece: Piece) -> Iterator[str]:
    match piece.kind:
        case "thinking":
            yield "Thinking:\n"
            yield _fenced(piece.text)
        case "call":
            yield f"Calls {_code(piece.label)}:\n"
            yield _fenced(piece.text, "json")
        case "image":
            url = data_url(piece.label, piece.text)
            size = len(piece.text) * 3 // 4
            yield f"![picture]({url})" if url else f"A picture, {_code(piece.label)}, {size} bytes"
        case _:
            yield _fenced(piece.text)


def _footer(footer: Footer) -> Iterator[str]:
    yield "---\n"
    yield f"Stream {_code(footer.stream)}, {footer.events} events, last hash `{footer.head_hash}`."
    if footer.checkpoint is not None:
        yield "\n" + COVERS.format(footer.proven) + "\n"
        yield _fenced(footer.checkpoint)
    yield f"\n{PROVES}\n"
    yield _fenced(footer.how_to_verify, "sh")


def _fenced(text: str, language: str = "") -> str:
    """Return a text in a fence that nothing inside it can close."""
    text = shown(text)
    fence = "`" * max(FENCE_MIN, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _code(text: str) -> str:
    """Return a text as a span of code on one line, whatever is in it."""
    line = shown_line(text) or " "
    ticks = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def _plain(text: str) -> str:
    """Return words as they are, and as code what could mean something to Markdown."""
    return text if _WORDS.fullmatch(text) else _code(text)


def _longest_run(text: str) -> int:
    return max([len(run) for run in re.findall("`+", text)], default=0)
