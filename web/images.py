"""Pictures in requests: data URLs, checked, as a prompt holds them."""

import base64
import binascii
import re
from collections.abc import Iterable

from actors.session.messages import Image
from web.errors import Problem

MEDIA_TYPES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""What models can be shown, and how each file of the type begins."""

IMAGES_MAX = 20

_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)


def images_of(urls: Iterable[object]) -> tuple[Image, ...]:
    """Return the pictures in data URLs. Raises Problem 422."""
    images = tuple([_image_of(url) for url in urls])
    if len(images) > IMAGES_MAX:
        raise Problem(422, f"A prompt holds {IMAGES_MAX} pictures at most.")
    return images


def _image_of(url: object) -> Image:
    found = _DATA_URL.match(url) if isinstance(url, str) else None
    if not isinstance(url, str) or found is None:
        raise Problem(
            422, "A picture is sent as a data URL, data:image/png;base64,…: nothing is fetched."
        )
    media_type, data = found[1].lower(), url[found.end() :]
    begin = MEDIA_TYPES.get(media_type)
    if begin is None:
        raise Problem(422, f"A picture is one of {', '.join(MEDIA_TYPES)}, not {media_type}.")
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "A picture's data is not base64.") from error
    if not decoded.startswith(begin):
        raise Problem(422, f"A picture that is said to be {media_type} isn't.")
    return Image(media_type, data)
