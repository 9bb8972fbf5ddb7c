"""What is true of the whole gateway and changes while it runs: settings, tokens, signing keys."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from actors.gateway_actor import GatewayActor, Loaded, Refresh
from actors.gateway_state import (
    STREAM,
    GatewayState,
    IssueToken,
    PatchConfig,
    RevokeToken,
    Token,
    UsedKey,
)
from actors.registry import ASK_TIMEOUT_S
from actors.session.commands import Command
from actors.session.events import Request
from actors.timers import now_ms
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from web.inputs import TokenBody
from web.live_config import LiveConfig
from web.tokens import Tokens, new_token


class Administration:
    """The stream ``gateway`` in this process; each process follows what others write to it."""

    def __init__(
        self,
        log: EventLog,
        writer: GroupCommit,
        config: LiveConfig,
        tokens: Tokens,
        *,
        shared: bool,
    ) -> None:
        self.state = GatewayState()
        self._log = log
        self._config = config
        self._tokens = tokens
        self._shared = shared
        self._row = 0
        self._actor = GatewayActor.start(log, writer, self._install)

    @property
    def signing_keys(self) -> Sequence[UsedKey]:
        """Return all keys that ever signed a checkpoint, the newest last."""
        return self.state.signing_keys

    def load(self) -> None:
        """Wait for what the log holds. Raises PersistenceError."""
        self.ask(Loaded())
        head = self._log.head(STREAM)
        assert head is not None
        self._row = head.row

    def refresh(self) -> None:
        """Take in what other processes have changed. Raises PersistenceError."""
        if self._shared:
            self.ask(Refresh())

    def look(self, rows: Sequence[int] | None) -> None:
        """Take in what others may have changed, where these streams have gone on."""
        if rows is None or self._row in rows:
            self._actor.tell(Refresh())

    def patch_config(
        self, changes: dict[str, Any], principal: str, request: Request | None = None
    ) -> None:
        """Change settings, durably. Raises PersistenceError."""
        self.ask(PatchConfig(now_ms(), changes, principal=principal, request=request))

    def issue_token(
        self, wanted: TokenBody, principal: str, request: Request | None = None
    ) -> tuple[str, Token]:
        """Issue a token, durably; return its text, kept nowhere, and what is kept of it.

        Raises NameTaken or PersistenceError.
        """
        token_id, text = new_token()
        command = IssueToken(
            now_ms(),
            token_id,
            wanted.name,
            sha256(text.encode()).hexdigest(),
            tuple(dict.fromkeys(wanted.scopes)),
            wanted.key_prefix,
            principal=principal,
            request=request,
        )
        self.ask(command)
        return text, self._tokens.issued(token_id)

    def revoke_token(self, token_id: str, principal: str, request: Request | None = None) -> bool:
        """Revoke a token, durably; tell whether it was good. Raises PersistenceError."""
        return self.ask(RevokeToken(now_ms(), token_id, principal=principal, request=request))

    def ask(self, command: Command | Loaded | Refresh) -> bool:
        """Have a command carried out, durably; tell whether it changed anything.

        Blocks for ASK_TIMEOUT_S at most. Raises PersistenceError, or what rejects the command.
        """
        changed: bool = self._actor.ask(command, block=True, timeout=ASK_TIMEOUT_S)
        return changed

    def _install(self, state: GatewayState) -> None:
        self.state = state
        self._config.install(state.overrides)
        self._tokens.install(state.tokens)
