"""What a word is: one definition for what is stored, indexed and asked. Pure.

Words are spelled by Unicode's NFKC and case folding, without what can't be seen; what belongs to
a word is what the HTTP contract says, for the letters of every script.
"""

import re
from collections.abc import Iterator
from itertools import pairwise, takewhile
from unicodedata import category, combining, normalize

_JOINERS = r"._:/+\-"
"""What may stand inside a word beside letters, digits and their marks, as a character class."""

_INVISIBLE = re.compile(  # Unicode's Default_Ignorable_Code_Point
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)

MARKS_MAX = 30
"""Of marks in a row no more count, as in Unicode's stream-safe format: the time that it takes to
bring them into order grows with the square of their number."""

_MARKS_IN_DISGUISE = {
    ord(each): normalize("NFKD", each) for each in "\u0f73\u0f75\u0f81\uff9e\uff9f"
}
"""What doesn't say that it is marks before it is decomposed."""

_MARK_RUNS = re.compile(rf"[^\w\x00-\x7f]{{{MARKS_MAX + 1},}}")

_SPACELESS = "".join(
    (
        "\u0e00-\u0eff",  # Thai, Lao
        "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\U000116d0-\U000116ff",  # Myanmar
        "\u1780-\u17ff",  # Khmer
        "\u3041-\u30ff\u31f0-\u31ff\U0001aff0-\U0001b16f",  # Hiragana, Katakana
        "\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",  # Han
        "\U00020000-\U0003ffff",
    )
)
"""The scripts that put no spaces between words, as ranges of a character class."""

_OTHERS = re.compile(rf"[^\w{_JOINERS}]+")
_ASCII_SPELLED = {code: _OTHERS.sub(" ", chr(code).lower()) for code in range(128)}
_MARKS = rf"[^\w{_JOINERS} ]*"  # in a normal form nothing else is left beside letters and digits
_PIECE = rf"[{_SPACELESS}]{_MARKS}|[^{_JOINERS} {_SPACELESS}]+"
_PIECES = re.compile(_PIECE)
_PARTS = re.compile(rf"{_PIECE}|[{_JOINERS} ]")
_RUNS = re.compile(rf"(?:[{_SPACELESS}]{_MARKS})+|[^ {_SPACELESS}]+")
_STARTS_SPACELESS = re.compile(f"[{_SPACELESS}]")


def normal(text: str) -> str:
    """Return the text's words, spelled in one way, with one space between them.

    Letters, digits and their marks of any script and ``._:/+-`` stay; all else separates words.
    """
    if text.isascii():
        return " ".join(text.translate(_ASCII_SPELLED).split())
    return " ".join(_OTHERS.sub(_without_others, _folded(text)).split())


def written(text: str) -> list[str]:
    """Return the words that stand between the normal form's spaces, each once, in order.

    A word has a letter or digit, and two characters unless its script needs no spaces.
    """
    return [word for word in dict.fromkeys(normal(text).split()) if _counts(word)]


def words(text: str) -> list[str]:
    """Return the words by which a text is asked for, each once, in order.

    They are the written ones. Of a script without spaces a run of letters is a word of its own,
    or, where that has more than two pieces, each two in a row: where its words end isn't known.
    """
    asked = dict.fromkeys(part for word in written(text) for part in _split(word))
    return [word for word in asked if _counts(word)]


def is_spaceless(word: str) -> bool:
    """Tell whether a word that is asked for is of a script that needs no spaces."""
    return _STARTS_SPACELESS.match(word) is not None


def pieces(text: str) -> list[str]:
    """Return what is indexed of a text: its words without ``._:/+-``.

    In scripts without spaces each character is a piece: a word is found within a sentence.
    """
    return _PIECES.findall(normal(text))


def spelling(text: str) -> str:
    """Return the normal form with ``|`` around each piece, each joiner and each space.

    A text holds another as whole words where its spelling holds the other's.
    """
    return f"|{'|'.join(_PARTS.findall(normal(text)))}|"


def _folded(text: str) -> str:
    seen = _INVISIBLE.sub("", text).translate(_MARKS_IN_DISGUISE)
    bounded = _MARK_RUNS.sub(_without_excess, seen)
    return normalize("NFKC", normalize("NFKC", bounded).casefold())


def _without_excess(run: re.Match[str]) -> str:
    rest = (character for character in run[0][MARKS_MAX:] if not combining(character))
    return run[0][:MARKS_MAX] + "".join(rest)


def _without_others(run: re.Match[str]) -> str:
    """Keep the marks of the letter before the run; one alone is no part of a word."""
    before = run.string[run.start() - 1 : run.start()]
    marks = "".join(takewhile(_is_mark, run[0])) if before.isalnum() else ""
    return marks if marks == run[0] else f"{marks} "


def _is_mark(character: str) -> bool:
    return category(character)[0] == "M"


def _split(word: str) -> Iterator[str]:
    for run in _RUNS.findall(word):
        found = _PIECES.findall(run) if is_spaceless(run) else ()
        if len(found) > 2:
            yield from (one + next_one for one, next_one in pairwise(found))
        else:
            yield run


def _counts(word: str) -> bool:
    enough = len(word) > 1 or is_spaceless(word)
    return enough and any(map(str.isalnum, word))
