"""Who read what, as events. Pure.

Stream ``access``. ``at`` is in milliseconds since the epoch, UTC.
"""

from typing import ClassVar

from actors.session.codec import Codec
from actors.session.events import Event

STREAM = "access"


class AccessRead(Event, frozen=True):
    """Somebody was about to be shown something; ``session_key`` is "" for what is no session's.

    ``query`` holds the parameters of the request as they were sent.
    """

    wire_name: ClassVar[str] = "access.read"
    resource: str
    at: int
    session_key: str = ""
    query: str = ""


ACCESS_EVENTS: tuple[type[Event], ...] = (AccessRead,)

CODEC = Codec(ACCESS_EVENTS)
