"""What stands under a transcript. Pure."""

from msgspec import Struct


class Footer(Struct, frozen=True):
    """Which log the transcript tells of, and how to check that log; ``events`` is its length.

    ``proven`` is the last event that the checkpoint covers.
    """

    stream: str
    events: int
    head_hash: str
    checkpoint: str | None
    proven: int | None
    how_to_verify: str


COVERS = "The checkpoint covers the events up to seq {}; later hashes follow from theirs."
PROVES = "A transcript proves nothing by itself. An export of the same session does:"
