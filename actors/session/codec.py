"""Events to bytes and back, whatever version they were written in. Pure.

An event's payload is its fields as JSON. A payload of an older schema version goes through its
upcasters, one version at a time, before it is decoded.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from actors.session.events import EVENT_TYPES, Event
from actors.session.record_events import RECORD_EVENTS
from actors.session.state import SessionState

SESSION_EVENTS: tuple[type[Event], ...] = (*EVENT_TYPES, *RECORD_EVENTS)
"""All that a session's stream can hold."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}
"""(wire name, version) -> what turns that version's payload into the next one's."""


class UnknownEventError(Exception):
    """The log holds an event that this program does not know: a newer one wrote it."""


class Codec:
    """Encodes and decodes the given event types."""

    def __init__(
        self,
        types: tuple[type[Event], ...] = SESSION_EVENTS,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._types = {each.wire_name: each for each in types}
        self._decoders = {
            (each.wire_name, each.schema_version): msgspec.json.Decoder(each).decode
            for each in types
        }
        self._upcasters = upcasters

    @property
    def wire_names(self) -> frozenset[str]:
        """Return the names of the events that it knows."""
        return frozenset(self._types)

    def encode(self, event: Event) -> bytes:
        """Return the event's payload."""
        return self._encode(event)

    def decode(self, wire_name: str, schema_version: int, payload: bytes) -> Event:
        """Return the event. Raises UnknownEventError, or msgspec.MsgspecError for a bad payload."""
        decode = self._decoders.get((wire_name, schema_version))
        if decode is not None:
            return decode(payload)
        return self._upcast(wire_name, schema_version, payload)

    def decode_all(self, stored: Iterable[tuple[str, int, bytes]]) -> list[Event]:
        """Return the events of wire names, versions and payloads, all of them of today's shape.

        Raises KeyError for any other, msgspec.MsgspecError for a bad payload.
        """
        decoders = self._decoders
        return [decoders[name, version](payload) for name, version, payload in stored]

    def _upcast(self, wire_name: str, schema_version: int, payload: bytes) -> Event:
        current = self._types.get(wire_name)
        if current is None or schema_version > current.schema_version:
            raise UnknownEventError(f"{wire_name} version {schema_version} is not known here")
        fields = msgspec.json.decode(payload)
        for version in range(schema_version, current.schema_version):
            fields = self._upcasters[wire_name, version](fields)
        return msgspec.convert(fields, current)


encode_state = msgspec.json.Encoder().encode
"""Return a state as bytes: the same state always gives the same bytes."""

decode_state: Callable[[bytes], SessionState] = msgspec.json.Decoder(SessionState).decode
