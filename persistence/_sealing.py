"""Encryption of what is written to the log, before it gets there."""

from collections.abc import Sequence

from msgspec.structs import replace

from persistence.errors import PersistenceError
from persistence.records import Append, Claim, Head, Restore, Snapshot, StoredEvent, Summary, Write
from persistence.vault import Vault


class Sealing:
    """Encrypts writes; whoever erases all of a stream's events destroys their key."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def sealed(self, batch: Sequence[Write]) -> list[Write]:
        """Return writes as they are carried out, but for the events of appends."""
        return [self._sealed(write) for write in batch]

    def events(self, stream_id: str, stored: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Return events as they are stored."""
        return self._vault.seal_events(stream_id, stored)

    def committed(
        self, batch: Sequence[Write], outcomes: Sequence[Head | PersistenceError]
    ) -> None:
        """Destroy the keys of what was erased as a whole."""
        for write, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Head) and isinstance(write, Append) and write.erases_all:
                self._vault.destroy_earlier(outcome.stream_id)

    def _sealed(self, write: Write) -> Write:
        if isinstance(write, Claim):
            self._vault.forget(write.stream_id)
        elif isinstance(write, Append):
            return self._sealed_append(write)
        elif isinstance(write, Restore):
            name = write.stream_id
            return replace(
                write,
                events=tuple(self._vault.seal_events(name, write.events)),
                summary=self._summary(name, write.summary),
                snapshots=tuple([self._snapshot(name, each) for each in write.snapshots]),
            )
        return write

    def _sealed_append(self, append: Append) -> Append:
        name, snapshot = append.head.stream_id, append.snapshot
        if append.erases_all:
            self._vault.renew(name)
        if snapshot is not None:
            snapshot = self._snapshot(name, snapshot)
        return replace(append, summary=self._summary(name, append.summary), snapshot=snapshot)

    def _snapshot(self, stream_id: str, snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, state=self._vault.seal(stream_id, snapshot.state))

    def _summary(self, stream_id: str, summary: Summary) -> Summary:
        return replace(summary, body=self._vault.seal(stream_id, summary.body))
