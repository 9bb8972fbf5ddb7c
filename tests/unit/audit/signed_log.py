"""A log whose checkpoints are signed as a gateway signs them, without serving anything."""

from collections.abc import Sequence

from actors.audit.signing.keys import SigningKey
from actors.audit.signing.notes import VerifierKey, parse_verifier_key
from actors.audit.signing.signer import Signer
from actors.gateway_actor import GatewayActor, Loaded
from actors.gateway_state import GatewayState, UsedKey, UseSigningKey
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.in_memory import InMemoryEventLog, InMemoryTree
from persistence.records import SHARED, Append, Claim, Head, NewEvent, Summary
from persistence.tree import Tree

UNLISTED = Summary(listed=False, active=False, body=b"{}")


def new_key() -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return SigningKey(Ed25519PrivateKey.generate())


class SignedLog:
    """A log, its tree, and who signs it; ``keys`` can be changed between two checkpoints."""

    def __init__(
        self,
        log: EventLog | None = None,
        tree: Tree | None = None,
        *,
        keys: Sequence[SigningKey] | None = None,
        origin: str = "",
    ) -> None:
        if log is None or tree is None:
            log = InMemoryEventLog()
            tree = InMemoryTree(log)
        self.log, self.tree = log, tree
        self.keys = [new_key()] if keys is None else list(keys)
        self.now_ms = 1_790_000_000_000
        self.state = GatewayState()
        self.writer = GroupCommit(log)
        self.writer.start()
        self._actor = GatewayActor.start(log, self.writer, self._install)
        self._actor.ask(Loaded())
        self.signer = Signer(
            log,
            tree,
            self.writer,
            lambda: self.keys,
            lambda: self.known,
            self._use,
            lambda: self.now_ms,
            origin,
        )

    def _install(self, state: GatewayState) -> None:
        self.state = state

    def _use(self, command: UseSigningKey) -> None:
        self._actor.ask(command)

    @property
    def known(self) -> Sequence[UsedKey]:
        return self.state.signing_keys

    @property
    def public_keys(self) -> list[VerifierKey]:
        return [parse_verifier_key(each.verifier_key) for each in self.known]

    def append(self, stream_id: str, count: int = 1) -> Head:
        """Append some events to a stream that everybody may write."""
        claimed = self.writer.submit(Claim(stream_id, SHARED)).result()
        events = tuple(
            [NewEvent("text.delta", 1, b'{"text":"%d"}' % each) for each in range(count)]
        )
        return self.writer.submit(Append(claimed, events, UNLISTED)).result()

    def close(self) -> None:
        self._actor.stop()
        self.writer.close()
