"""The command line's ``token`` commands: through a running gateway, or straight to its log."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import click
import msgspec

from web.cli_base import PRINCIPAL, Decorator, Prepared, json_option
from web.operations import ADMIN, SCOPES
from web.settings import Settings

if TYPE_CHECKING:
    from web.inputs import TokenBody

CALL_TIMEOUT_S = 10.0


class TokenStore(Protocol):
    """Where tokens are issued and revoked."""

    def issue(self, wanted: "TokenBody") -> str:
        """Issue a token and return it."""

    def listed(self) -> list[dict[str, Any]]:
        """Return the tokens as ``GET /tokens`` shows them."""

    def revoke(self, token_id: str) -> bool:
        """Revoke a token by its id; tell whether it was good."""


class RunningGateway:
    """A gateway that answers HTTP. Implements TokenStore."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token

    def answers(self) -> bool:
        """Tell whether a gateway listens there."""
        try:
            return "ready" in self.call("GET", "/health")
        except (OSError, ValueError, TypeError):
            return False

    def issue(self, wanted: "TokenBody") -> str:
        """See TokenStore.issue."""
        token: str = self.call("POST", "/tokens", msgspec.to_builtins(wanted))["token"]
        return token

    def listed(self) -> list[dict[str, Any]]:
        """See TokenStore.listed."""
        tokens: list[dict[str, Any]] = self.call("GET", "/tokens")["tokens"]
        return tokens

    def revoke(self, token_id: str) -> bool:
        """See TokenStore.revoke."""
        return bool(self.call("DELETE", f"/tokens/{token_id}")["ok"])

    def call(self, method: str, path: str, body: object = None, *, scope: str = ADMIN) -> Any:  # noqa: ANN401 - JSON
        """Return what the gateway answers; ``scope`` is what it wants for that."""
        request = urllib.request.Request(self._url + path, method=method)  # noqa: S310 - an http URL
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        data = None
        if body is not None:
            request.add_header("Content-Type", "application/json")
            data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, data, timeout=CALL_TIMEOUT_S) as answer:  # noqa: S310 - see above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise click.ClickException(_refusal(self._url, error, scope)) from error


def _refusal(url: str, error: urllib.error.HTTPError, scope: str) -> str:
    if error.code in (401, 403):
        return f"The gateway at {url} wants a token with the scope {scope}: give it by --token."
    with contextlib.suppress(ValueError, KeyError):
        return str(json.load(error)["error"])
    return f"The gateway at {url} answered {error.code}."


class StoppedGateway:
    """The log of a gateway that does not run. Implements TokenStore."""

    def __init__(self, settings: Settings, principal: str) -> None:
        from web.bootstrap import Gateway

        self._gateway = Gateway(settings)
        self._gateway.admin.load()
        self._principal = principal

    def issue(self, wanted: "TokenBody") -> str:
        """See TokenStore.issue."""
        text, _token = self._gateway.admin.issue_token(wanted, self._principal)
        return text

    def listed(self) -> list[dict[str, Any]]:
        """See TokenStore.listed."""
        from web.resources.tokens import shown

        found: list[dict[str, Any]] = msgspec.to_builtins(
            [shown(each) for each in self._gateway.tokens.named]
        )
        return found

    def revoke(self, token_id: str) -> bool:
        """See TokenStore.revoke."""
        return self._gateway.admin.revoke_token(token_id, self._principal)

    def close(self) -> None:
        """Let the next process have the database."""
        self._gateway.stop(grace_s=0)


def running_gateway(settings: Settings, url: str | None) -> RunningGateway | None:
    """Return the gateway at ``url``, by default the one that listens where it would, or None."""
    token = None if settings.token is None else settings.token.get_secret_value()
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    running = RunningGateway(url or f"http://{host}:{settings.port}", token)
    return running if url is not None or running.answers() else None


@contextlib.contextmanager
def token_store(settings: Settings, url: str | None, principal: str) -> Iterator[TokenStore]:
    """Yield the running gateway at ``url``, by default where it would listen, or else its log."""
    running = running_gateway(settings, url)
    if running is not None:
        yield running
        return
    stopped = StoppedGateway(settings, principal)
    try:
        yield stopped
    finally:
        stopped.close()


@click.group()
def token() -> None:
    r"""Issue, list and revoke named tokens.

    \b
    A running gateway is asked by HTTP, with the token of its settings (--token or SESSIOND_TOKEN);
    without one that runs, its database is opened.

    \b
    Example:
      sessiond token issue ci --scope prompt
    """


def token_commands(with_settings: Callable[..., Decorator], prepared: Prepared) -> click.Group:
    """Return the group ``token``; ``prepared`` takes the flags, and shows errors in a line."""

    @contextlib.contextmanager
    def opened(url: str | None, flags: dict[str, str | None]) -> Iterator[TokenStore]:
        with prepared(flags) as settings, token_store(settings, url, PRINCIPAL) as store:
            yield store

    at = click.option("--url", help="Where the gateway runs; by default where it would listen.")
    flags = with_settings("database_url", "bind", "port", "token")

    @token.command()
    @click.argument("name")
    @click.option(
        "--scope",
        "scopes",
        multiple=True,
        required=True,
        type=click.Choice(list(SCOPES)),
        help="What it allows; can be given more than once.",
    )
    @click.option("--key-prefix", default="", help="Only sessions whose keys begin so.")
    @json_option
    @at
    @flags
    def issue(
        name: str,
        scopes: tuple[str, ...],
        key_prefix: str,
        url: str | None,
        *,
        as_json: bool,
        **given: str | None,
    ) -> None:
        r"""Issue a token and print it: it is kept nowhere.

        \b
        Examples:
          sessiond token issue ci --scope prompt
          sessiond token issue auditor --scope read --scope audit --key-prefix team-a:
        """
        with opened(url, given) as store:
            body = {"name": name, "scopes": list(scopes), "keyPrefix": key_prefix}
            made = store.issue(_checked(body))
        click.echo(json.dumps({**body, "token": made}) if as_json else made)

    @token.command("list")
    @json_option
    @at
    @flags
    def list_tokens(*, as_json: bool, url: str | None, **given: str | None) -> None:
        r"""List all tokens there ever were; none is shown itself.

        \b
        Example:
          sessiond token list --json
        """
        with opened(url, given) as store:
            tokens = store.listed()
        if as_json:
            click.echo(json.dumps(tokens))
            return
        for each in tokens:
            click.echo(_line(each))

    @token.command()
    @click.argument("name_or_id")
    @json_option
    @at
    @flags
    def revoke(name_or_id: str, url: str | None, *, as_json: bool, **given: str | None) -> None:
        r"""Revoke a token, by its name or id: at once, and its open streams end.

        \b
        Example:
          sessiond token revoke ci
        """
        with opened(url, given) as store:
            named = [
                each["id"]
                for each in store.listed()
                if name_or_id in (each["name"], each["id"]) and "revokedAt" not in each
            ]
            if not named or not store.revoke(named[0]):
                raise click.ClickException(f"There is no good token {name_or_id!r}.")
        shown = {"ok": True, "id": named[0]}
        click.echo(json.dumps(shown) if as_json else f"Revoked {name_or_id}.")

    return token


def _checked(body: dict[str, Any]) -> "TokenBody":
    from web.inputs import TokenBody
    from web.requests import typed_object

    return typed_object(body, TokenBody)


def _line(shown: dict[str, Any]) -> str:
    state = "revoked" if "revokedAt" in shown else "good"
    issued = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(shown["issuedAt"] / 1000))
    bound = f" for {shown['keyPrefix']}…" if "keyPrefix" in shown else ""
    return f"{shown['id']}  {issued}  {state}  {shown['name']}  {','.join(shown['scopes'])}{bound}"
