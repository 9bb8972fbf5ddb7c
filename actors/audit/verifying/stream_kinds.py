"""Which streams there are, and what each holds."""

from actors import gateway_state
from actors.audit import access
from actors.audit.signing import events
from actors.memory import events as memory_events
from actors.replay import CODEC, STREAM_PREFIX
from actors.session.codec import Codec

MEMORY_PREFIX = "memory:"

_NAMED: dict[str, Codec] = {
    gateway_state.STREAM: gateway_state.CODEC,
    events.STREAM: events.CODEC,
    access.STREAM: access.CODEC,
}

WIRE_NAMES = frozenset().union(
    *[each.wire_names for each in (CODEC, memory_events.CODEC, *_NAMED.values())]
)
"""The names of all events there are."""


def is_session(stream_id: str) -> bool:
    """Tell whether it is a session's stream."""
    return stream_id.startswith(STREAM_PREFIX)


def is_memory(stream_id: str) -> bool:
    """Tell whether it is a memory's stream."""
    return stream_id.startswith(MEMORY_PREFIX)


def codec_of(stream_id: str) -> Codec | None:
    """Return what decodes a stream's events, None where there is no such kind of stream."""
    if is_session(stream_id):
        return CODEC
    if is_memory(stream_id):
        return memory_events.CODEC
    return _NAMED.get(stream_id)
