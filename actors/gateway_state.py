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


GATEWAY_EVENTS: tuple[type[Event], ...] = (ConfigPatched, TokenIssued, TokenRevoked)

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


class GatewayState(Struct, frozen=True):
    """Settings that replace the configured ones, and all tokens there ever were, by their ids."""

    overrides: dict[str, Any] = {}
    tokens: dict[str, Token] = {}


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
    raise AssertionError(f"{type(command).__name__} is none of the gateway's commands")


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


_EVOLVE: dict[type[Event], Callable[[GatewayState, Any], GatewayState]] = {
    ConfigPatched: _config_patched,
    TokenIssued: _token_issued,
    TokenRevoked: _token_revoked,
}
