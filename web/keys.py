"""Which session keys there can be."""

import unicodedata

from web.errors import Problem

KEY_CHARACTERS_MAX = 200
PUNCTUATION = frozenset("._~:@+=-")


def checked_key(key: str) -> str:
    """Return a session's key as it is. Raises Problem 400 or 414, saying what a key is."""
    if len(key) > KEY_CHARACTERS_MAX:
        raise Problem(
            414 if len(key) > 2_048 else 400,
            f"A session key has at most {KEY_CHARACTERS_MAX} characters.",
        )
    if not key or not key.strip(".") or not all(_is_allowed(character) for character in key):
        raise Problem(
            400,
            "A session key has letters and digits of any script and the characters "
            "._~:@+=- and is not only dots.",
        )
    if unicodedata.normalize("NFC", key) != key:
        raise Problem(400, "A session key must be in Unicode normal form C.")
    return key


def _is_allowed(character: str) -> bool:
    return character in PUNCTUATION or unicodedata.category(character)[0] in "LMN"
