"""Where a command came from."""

from msgspec import Struct


class Origin(Struct, frozen=True):
    """A message in this process's inbox, from another process."""

    message_id: int
    asker: str
