"""Text of models, tools and people, made fit to be shown; and times, sizes, pictures. Pure.

Nothing that steers a terminal or turns the direction of text comes through as itself.
"""

import re
from datetime import UTC, datetime, timedelta

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)}
_SHOWN = {
    **_CONTROLS,
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
    **{
        code: f"\u27e8U+{code:04X}\u27e9"
        for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
    },
    **dict.fromkeys((0x2028, 0x2029), "\n"),
}


def shown(text: str) -> str:
    """Return a text with control characters and overrides of direction made visible."""
    return text.replace("\r\n", "\n").translate(_SHOWN)


def shown_line(text: str) -> str:
    """Return a text as one line."""
    return " ".join(shown(text).split())


def shown_time(at_ms: int) -> str:
    """Return a time in UTC as people read it."""
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return f"{at_ms} ms"
    return at.strftime("%Y-%m-%d %H:%M:%S") + " UTC"


def data_url(media_type: str, data: str) -> str | None:
    """Return a picture as a data URL, None where it is none that may be shown."""
    if media_type not in IMAGE_TYPES or not _BASE64.fullmatch(data):
        return None
    return f"data:{media_type};base64,{data}"
