"""What others wrote, as it may be shown in a terminal. Pure."""

import unicodedata

REPLACEMENT = "\ufffd"
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What makes a terminal write in the other direction."""

_BREAKS = frozenset("\n\t\u2028\u2029")


def printable(text: str) -> str:
    """Return a text without what would command the terminal."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join([each if _is_harmless(each) else REPLACEMENT for each in text])


def in_a_line(text: str) -> str:
    """Return a text as printable does, and with spaces where it would begin another line."""
    return "".join([" " if each in _BREAKS else each for each in printable(text)])


def _is_harmless(character: str) -> bool:
    if character in "\n\t":
        return True
    return unicodedata.category(character) not in ("Cc", "Cs") and character not in _TURNS
