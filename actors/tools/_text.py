"""How tools put names and notes to a model."""

import re

_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
NAME_CHARACTERS_MAX = 500
NOTE_CHARACTERS = 500
"""What is left of a tool's output for the notes that tell what is missing."""


def readable(name: str) -> str:
    """Return a name on one line; what is not text in it is replaced."""
    return _UNREADABLE.sub("\ufffd", name)


def shown(name: str) -> str:
    """Return a name as a sentence may hold it: readable, and not too long."""
    cut = name if len(name) <= NAME_CHARACTERS_MAX else name[:NAME_CHARACTERS_MAX] + "…"
    return readable(cut)


def joined(text: str, notes: list[str]) -> str:
    """Return a text with notes about it after it, in brackets."""
    return "\n\n".join([text, *[f"[{note}]" for note in notes]])
