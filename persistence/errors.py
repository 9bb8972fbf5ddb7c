"""What can go wrong in the store, translated once from the driver's errors."""


class PersistenceError(Exception):
    """Base of every error that this package raises."""


class ConflictError(PersistenceError):
    """The stream's version is not the expected one; nothing was written."""


class LeaseLostError(PersistenceError):
    """Another owner has raised the stream's epoch; nothing was written."""


class OwnedElsewhereError(PersistenceError):
    """A living process owns the stream; nothing was written. ``owner`` is its name."""

    def __init__(self, stream_id: str, owner: str) -> None:
        super().__init__(f"{stream_id} is owned by {owner}")
        self.owner = owner


class StoreUnavailableError(PersistenceError):
    """The database can't be written or read now; whether the last write holds is unknown."""


class StoreBusyError(StoreUnavailableError):
    """The writer's queue is full; nothing was written, try again."""


class StoreLockedError(PersistenceError):
    """Another process serves this SQLite database."""


class SchemaMismatchError(PersistenceError):
    """The database's schema is not the one this program was written for."""


class SchemaOutdatedError(SchemaMismatchError):
    """The database's schema is older; migrating it helps."""


class CorruptLogError(PersistenceError):
    """A stored event contradicts the log.

    ``stream_id`` and ``seq`` name the first event that does.
    """

    def __init__(self, stream_id: str, seq: int, problem: str) -> None:
        super().__init__(f"{stream_id} is damaged at seq {seq}: {problem}")
        self.stream_id = stream_id
        self.seq = seq
        self.problem = problem


class ProofError(PersistenceError):
    """A Merkle proof, or a signature over a tree, does not hold; the message says why."""
