"""An exported session, checked and made ready to be written into another log."""

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from actors.audit.exporting.file_check import FileReport, checked
from actors.gateway_state import RestoreStream
from actors.replay import entry_of, snapshot_of
from actors.session.state import SessionState
from actors.session_actor import SNAPSHOT_EVERY_EVENTS
from persistence.group_commit import GroupCommit
from persistence.records import Restore, Snapshot, StoredEvent

SEEN_EVENTS = 1_000
"""After so many of them ``seen`` is told again how far it is."""


class Restorable(Struct, frozen=True):
    """What restores a session.

    Some deltas recorded before ``deltas_before_us`` were erased where it comes from.
    """

    restore: Restore
    deltas_before_us: int

    def command(self, at: int, principal: str) -> RestoreStream:
        """Return what has the gateway note where the session comes from; ``at`` in milliseconds."""
        last = self.restore.events[-1]
        return RestoreStream(
            at,
            self.restore.stream_id,
            last.seq,
            last.hash.hex(),
            self.deltas_before_us,
            principal=principal,
        )


def restorable(
    file: Path, public_keys: Sequence[str], seen: Callable[[int], object] = lambda _bytes: None
) -> tuple[FileReport, Restorable | None]:
    """Check a file and return what restores its session, None where it is damaged.

    It holds all events. ``seen`` is told how many bytes were read, now and then.
    Raises OSError or ProofError, see check_file.
    """
    events: list[StoredEvent] = []
    snapshots: list[Snapshot] = []

    def keep(event: StoredEvent, state: SessionState) -> None:
        events.append(event)
        if state.version % SNAPSHOT_EVERY_EVENTS == 0:
            snapshots.append(snapshot_of(state))
        if len(events) % SEEN_EVENTS == 0:
            seen(opened.tell())

    with file.open("rb") as opened:
        report, state = checked(opened, public_keys, keep)
    if not report.ok:
        return report, None
    if state.version % SNAPSHOT_EVERY_EVENTS:
        snapshots.append(snapshot_of(state))
    restore = Restore(report.stream, tuple(events), entry_of(state), snapshots=tuple(snapshots))
    return report, Restorable(restore, report.deltas_before_us)


def restore_into(writer: GroupCommit, found: Restorable) -> None:
    """Write a session, durably. Raises ConflictError where it is there, or PersistenceError."""
    writer.submit(found.restore).result()
