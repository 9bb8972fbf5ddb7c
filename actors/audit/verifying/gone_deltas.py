"""Which deltas may be erased without a record in their own stream: the gateway's tells of them."""

import contextlib

import msgspec
from msgspec import Struct

from actors.audit.verifying.segments import PAYLOAD, TYPE, VERSION
from actors.gateway_state import CODEC, STREAM, DeltasErased, StreamRestored
from actors.session.codec import UnknownEventError
from persistence.errors import CorruptLogError
from persistence.raw_rows import RawRows


class GoneDeltas(Struct):
    """Until when deltas may be gone, in microseconds: by retention, or before an import."""

    before_us: int
    imported: dict[str, int]

    def before(self, stream_id: str) -> int:
        """Return before which time a stream's deltas may be erased."""
        return max(self.before_us, self.imported.get(stream_id, 0))


def gone_deltas(raw: RawRows) -> GoneDeltas:
    """Return what the gateway's stream says of erased deltas."""
    gone = GoneDeltas(0, {})
    stream = raw.stream(STREAM)
    if stream is None:
        return gone
    for kind in (DeltasErased, StreamRestored):
        for seq in raw.seqs_of_type(stream.row, kind.wire_name):
            with contextlib.suppress(UnknownEventError, msgspec.MsgspecError, CorruptLogError):
                for (row,) in raw.chunks(stream, seq - 1, seq):
                    event = CODEC.decode(row[TYPE], row[VERSION], row[PAYLOAD] or b"")
                    if isinstance(event, DeltasErased):
                        gone.before_us = max(gone.before_us, event.before_us)
                    elif isinstance(event, StreamRestored):
                        before_us = max(gone.before(event.stream_id), event.deltas_before_us)
                        gone.imported[event.stream_id] = before_us
    return gone
