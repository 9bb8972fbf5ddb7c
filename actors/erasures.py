"""What the events of a stream say was erased of it. Pure."""

from collections.abc import Sequence

from actors.session.events import Event
from actors.session.record_events import StreamErased
from persistence.records import Erasure, Head


def erasures_of(head: Head, events: Sequence[Event]) -> tuple[Erasure, ...]:
    """Return what the events of a stream say was erased of it."""
    return tuple(
        [
            Erasure(head.row, first, last)
            for event in events
            if isinstance(event, StreamErased)
            for first, last in event.ranges
        ]
    )


def erases_all(head: Head, erasures: Sequence[Erasure]) -> bool:
    """Tell whether nothing is left of what a stream held until its head."""
    return any(each.first == 1 and each.last >= head.version for each in erasures)
