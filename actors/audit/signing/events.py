"""What the stream ``checkpoints`` holds: signed states of the log's Merkle tree. Pure.

``at`` is in milliseconds since the epoch, UTC.
"""

from typing import ClassVar

from actors.session.codec import Codec
from actors.session.events import Event

STREAM = "checkpoints"


class CheckpointSigned(Event, frozen=True):
    """The tree has grown by these leaves, each a stream's name and version, and was signed.

    ``size`` and ``root``, in hexadecimal, are those of the tree with them; ``note`` is the
    signed checkpoint.
    """

    wire_name: ClassVar[str] = "checkpoint.signed"
    size: int
    root: str
    note: str
    leaves: tuple[tuple[str, int], ...]
    at: int


class CheckpointCosigned(Event, frozen=True):
    """A witness has signed the checkpoint of this size as well, by this signature line."""

    wire_name: ClassVar[str] = "checkpoint.cosigned"
    size: int
    witness: str
    signature: str
    at: int


CHECKPOINT_EVENTS: tuple[type[Event], ...] = (CheckpointSigned, CheckpointCosigned)

CODEC = Codec(CHECKPOINT_EVENTS)
