"""What holds for the whole gateway, and how it changes: settings and tokens. Pure.

Stream ``gateway``. ``at`` is in milliseconds since the epoch, UTC.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from actors.session.codec import Codec
from actors.session.commands import Command
from actors.session.events import Event
from actors.session.rejections import Rejection
from persistence.records import Cursor, Erasure

STREAM = "gateway"


class ConfigPatched(Event, frozen=True):
    """Settings were changed; a value of None goes back to the configured one."""

    wire_name: ClassVar[str] = "config.patched"
    changes: dict[str, Any]
    at: int


class TokenIssued(Event, frozen=True):
    """Somebody was given a token; the log has its SHA-256, in hexadecimal, not the token."""

    wire_name: ClassVar[str] = "token.issued"
    token_id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    key_prefix: str
    at: int


class TokenRevoked(Event, frozen=True):
    """A token is good for nothing any more."""

    wire_name: ClassVar[str] = "token.revoked"
    token_id: str
    at: int


class SigningKeyIntroduced(Event, frozen=True):
    """Checkpoints are signed by this key from now on, which nothing ties to an earlier one."""

    wire_name: ClassVar[str] = "signing_key.introduced"
    verifier_key: str
    at: int


class SigningKeyRotated(Event, frozen=True):
    """Checkpoints are signed by another key from now on.

    ``statement`` is a note that says so, signed by both.
    """

    wire_name: ClassVar[str] = "signing_key.rotated"
    old_verifier_key: str
    verifier_key: str
    statement: str
    at: int


class DeltasErased(Event, frozen=True):
    """The payloads of deltas recorded before ``before_us`` are gone; their messages say the same.

    So many of them went with this event, of so many bytes. ``until`` is how far the log had been
    looked through, and means nothing outside its database.
    """

    wire_name: ClassVar[str] = "deltas.erased"
    before_us: int
    events: int
    bytes: int
    until: Cursor
    at: int


class StreamRestored(Event, frozen=True):
    """A stream of another log was checked, and is written to this one as it was there.

    It has so many ``events``, the last with this ``hash``. Deltas that were recorded before
    ``deltas_before_us`` may have been erased there.
    """

    wire_name: ClassVar[str] = "stream.restored"
    stream_id: str
    events: int
    hash: str
    deltas_before_us: int
    at: int


GATEWAY_EVENTS: tuple[type[Event], ...] = (
    ConfigPatched,
    TokenIssued,
    TokenRevoked,
    SigningKeyIntroduced,
    SigningKeyRotated,
    DeltasErased,
    StreamRestored,
)

CODEC = Codec(GATEWAY_EVENTS)


class PatchConfig(Command, frozen=True):
    """Change settings. The values have been checked."""

    changes: dict[str, Any]


class IssueToken(Command, frozen=True):
    """Let a token in; rejected with NameTaken while another of that name is good."""

    token_id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    key_prefix: str


class RevokeToken(Command, frozen=True):
    """Let a token in no more; one that is unknown or revoked stays so."""

    token_id: str


class UseSigningKey(Command, frozen=True):
    """Sign by a key; one that was used before changes nothing.

    Where ``old_verifier_key`` was in use, the ``statement`` ties the new one to it.
    """

    verifier_key: str
    old_verifier_key: str = ""
    statement: str = ""


class EraseDeltas(Command, frozen=True):
    """Erase deltas that were found after a place in the log, up to another; see DeltasErased.

    Where somebody has looked further than ``after`` nothing happens.
    """

    before_us: int
    events: int
    bytes: int
    after: Cursor
    until: Cursor
    erasures: tuple[Erasure, ...]


class RestoreStream(Command, frozen=True):
    """Note that a stream comes from another log; see StreamRestored."""

    stream_id: str
    events: int
    hash: str
    deltas_before_us: int


class NameTaken(Rejection):
    """A token of that name is in use: who acts must be told apart in the log."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is a token named {name!r}: revoke it first, or choose another name."
        )


class Token(Struct, frozen=True):
    """A token that was issued; ``revoked_at`` is None while it is good."""

    token_id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    key_prefix: str
    issued_at: int
    revoked_at: int | None = None


class UsedKey(Struct, frozen=True):
    """A key that has signed; ``replaced`` and ``statement`` are empty where nothing ties it."""

    verifier_key: str
    at: int
    replaced: str = ""
    statement: str = ""


class GatewayState(Struct, frozen=True):
    """Settings that replace the configured ones, and all tokens there ever were, by their ids.

    ``signing_keys`` are all that ever signed, the newest last. Of the deltas up to a place in the
    log those that were recorded before a time, in microseconds, are erased.
    """

    overrides: dict[str, Any] = {}
    tokens: dict[str, Token] = {}
    signing_keys: tuple[UsedKey, ...] = ()
    deltas_erased_before_us: int = 0
    deltas_erased_until: Cursor = Cursor(0, 0)


def decide(command: Command, state: GatewayState) -> tuple[Event, ...]:
    """Return the events that the command leads to. Raises Rejection."""
    match command:
        case PatchConfig():
            return (ConfigPatched(command.changes, command.at),)
        case IssueToken():
            if any(
                each.name == command.name and each.revoked_at is None
                for each in state.tokens.values()
            ):
                raise NameTaken(command.name)
            return (
                TokenIssued(
                    command.token_id,
                    command.name,
                    command.digest,
                    command.scopes,
                    command.key_prefix,
                    command.at,
                ),
            )
        case RevokeToken():
            token = state.tokens.get(command.token_id)
            if token is None or token.revoked_at is not None:
                return ()
            return (TokenRevoked(command.token_id, command.at),)
        case UseSigningKey():
            return _key_used(command, state)
        case EraseDeltas():
            return _deltas_erased_by(command, state)
        case RestoreStream():
            return (
                StreamRestored(
                    command.stream_id,
                    command.events,
                    command.hash,
                    command.deltas_before_us,
                    command.at,
                ),
            )
    raise AssertionError(f"{type(command).__name__} is none of the gateway's commands")


def _key_used(command: UseSigningKey, state: GatewayState) -> tuple[Event, ...]:
    known = {each.verifier_key for each in state.signing_keys}
    if command.verifier_key in known:
        return ()
    if command.old_verifier_key in known:
        return (
            SigningKeyRotated(
                command.old_verifier_key, command.verifier_key, command.statement, command.at
            ),
        )
    return (SigningKeyIntroduced(command.verifier_key, command.at),)


def _deltas_erased_by(command: EraseDeltas, state: GatewayState) -> tuple[Event, ...]:
    if state.deltas_erased_until > command.after:
        return ()
    return (
        DeltasErased(command.before_us, command.events, command.bytes, command.until, command.at),
    )


def evolve(state: GatewayState, event: Event) -> GatewayState:
    """Return the state after the event."""
    return _EVOLVE[type(event)](state, event)


def _config_patched(state: GatewayState, event: ConfigPatched) -> GatewayState:
    merged = {**state.overrides, **event.changes}
    return replace(
        state, overrides={name: value for name, value in merged.items() if value is not None}
    )


def _token_issued(state: GatewayState, event: TokenIssued) -> GatewayState:
    token = Token(
        event.token_id, event.name, event.digest, event.scopes, event.key_prefix, event.at
    )
    return replace(state, tokens={**state.tokens, event.token_id: token})


def _token_revoked(state: GatewayState, event: TokenRevoked) -> GatewayState:
    token = replace(state.tokens[event.token_id], revoked_at=event.at)
    return replace(state, tokens={**state.tokens, event.token_id: token})


def _signing_key_introduced(state: GatewayState, event: SigningKeyIntroduced) -> GatewayState:
    key = UsedKey(event.verifier_key, event.at)
    return replace(state, signing_keys=(*state.signing_keys, key))


def _signing_key_rotated(state: GatewayState, event: SigningKeyRotated) -> GatewayState:
    key = UsedKey(event.verifier_key, event.at, event.old_verifier_key, event.statement)
    return replace(state, signing_keys=(*state.signing_keys, key))


def _deltas_erased(state: GatewayState, event: DeltasErased) -> GatewayState:
    return replace(
        state,
        deltas_erased_before_us=max(state.deltas_erased_before_us, event.before_us),
        deltas_erased_until=event.until,
    )


def _stream_restored(state: GatewayState, _event: StreamRestored) -> GatewayState:
    return state


_EVOLVE: dict[type[Event], Callable[[GatewayState, Any], GatewayState]] = {
    ConfigPatched: _config_patched,
    TokenIssued: _token_issued,
    TokenRevoked: _token_revoked,
    SigningKeyIntroduced: _signing_key_introduced,
    SigningKeyRotated: _signing_key_rotated,
    DeltasErased: _deltas_erased,
    StreamRestored: _stream_restored,
}
