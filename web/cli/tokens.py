"""The command line's ``token`` commands: through a running gateway, or straight to its log."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import click
import msgspec

from web.cli.base import PRINCIPAL, json_option, prepared, with_settings
from web.cli.client import Client, running_client, url_option
from web.cli.text import in_a_line
from web.operations import SCOPES
from web.settings import Settings

if TYPE_CHECKING:
    from web.inputs import TokenBody


CLOSING = "From now on every request needs a token."
NO_ADMIN = (
    "This one can't issue others: a stopped gateway's database, or SESSIOND_TOKEN, still can."
)


class TokenStore(Protocol):
    """Where tokens are issued and revoked."""

    def is_open(self) -> bool:
        """Tell whether the gateway answers whoever asks: there was no token yet."""

    def issue(self, wanted: "TokenBody") -> str:
        """Issue a token and return it."""

    def listed(self) -> list[dict[str, Any]]:
        """Return the tokens as ``GET /tokens`` shows them."""

    def revoke(self, token_id: str) -> bool:
        """Revoke a token by its id; tell whether it was good."""


class RunningGateway:
    """A gateway that answers HTTP. Implements TokenStore."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def is_open(self) -> bool:
        """See TokenStore.is_open."""
        return not self._client.has_token and not self.listed()

    def issue(self, wanted: "TokenBody") -> str:
        """See TokenStore.issue."""
        token: str = self._client.call("POST", "/tokens", msgspec.to_builtins(wanted))["token"]
        return token

    def listed(self) -> list[dict[str, Any]]:
        """See TokenStore.listed."""
        tokens: list[dict[str, Any]] = self._client.call("GET", "/tokens")["tokens"]
        return tokens

    def revoke(self, token_id: str) -> bool:
        """See TokenStore.revoke."""
        return bool(self._client.call("DELETE", f"/tokens/{token_id}")["ok"])


class StoppedGateway:
    """The log of a gateway that does not run. Implements TokenStore."""

    def __init__(self, settings: Settings, principal: str) -> None:
        from web.bootstrap import Gateway

        self._gateway = Gateway(settings)
        self._gateway.admin.load()
        self._principal = principal
        self._has_token = bool(settings.token)

    def is_open(self) -> bool:
        """See TokenStore.is_open."""
        return not self._has_token and not self.listed()

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


@contextlib.contextmanager
def token_store(url: str | None, flags: dict[str, str | None]) -> Iterator[TokenStore]:
    """Yield the running gateway at ``url``, by default where it would listen, or else its log."""
    with prepared(flags) as settings:
        client = running_client(settings, url)
        if client is not None:
            yield RunningGateway(client)
            return
        with contextlib.closing(StoppedGateway(settings, PRINCIPAL)) as stopped:
            yield stopped


@click.group()
def token() -> None:
    r"""Issue, list and revoke named tokens.

    \b
    A running gateway is asked by HTTP, with a token of the scope admin (--token or SESSIOND_TOKEN);
    without one that runs, its database is opened: who has it needs no token.

    \b
    Example:
      sessiond token issue ci --scope prompt
    """


store_settings = with_settings("database_url", "bind", "port", "token")


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
@url_option
@store_settings
def issue(
    name: str,
    scopes: tuple[str, ...],
    key_prefix: str,
    url: str | None,
    *,
    as_json: bool,
    **flags: str | None,
) -> None:
    r"""Issue a token and print it: it is kept nowhere.

    \b
    Examples:
      sessiond token issue ci --scope prompt
      sessiond token issue auditor --scope read --scope audit --key-prefix team-a:
    """
    with token_store(url, flags) as store:
        body = {"name": name, "scopes": list(scopes), "keyPrefix": key_prefix}
        closing = store.is_open()
        made = store.issue(_checked(body))
    if closing:
        click.echo(CLOSING if "admin" in scopes else f"{CLOSING} {NO_ADMIN}", err=True)
    click.echo(json.dumps({**body, "token": made}) if as_json else made)


@token.command("list")
@json_option
@url_option
@store_settings
def list_tokens(*, as_json: bool, url: str | None, **flags: str | None) -> None:
    r"""List all tokens there ever were; none is shown itself.

    \b
    Example:
      sessiond token list --json
    """
    with token_store(url, flags) as store:
        tokens = store.listed()
    if as_json:
        click.echo(json.dumps(tokens))
        return
    for each in tokens:
        click.echo(_line(each))


@token.command()
@click.argument("name_or_id")
@json_option
@url_option
@store_settings
def revoke(name_or_id: str, url: str | None, *, as_json: bool, **flags: str | None) -> None:
    r"""Revoke a token, by its name or id: at once, and its open streams end.

    \b
    Example:
      sessiond token revoke ci
    """
    with token_store(url, flags) as store:
        named = [
            each["id"]
            for each in store.listed()
            if name_or_id in (each["name"], each["id"]) and "revokedAt" not in each
        ]
        if not named or not store.revoke(named[0]):
            raise click.ClickException(f"There is no good token {name_or_id!r}.")
    shown = {"ok": True, "id": named[0]}
    click.echo(json.dumps(shown) if as_json else f"Revoked {name_or_id}.")


def _checked(body: dict[str, Any]) -> "TokenBody":
    from web.inputs import TokenBody
    from web.requests import typed_object

    return typed_object(body, TokenBody)


def _line(shown: dict[str, Any]) -> str:
    state = "revoked" if "revokedAt" in shown else "good"
    issued = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(shown["issuedAt"] / 1000))
    bound = f" for {shown['keyPrefix']}…" if "keyPrefix" in shown else ""
    what = f"{shown['name']}  {','.join(shown['scopes'])}{bound}"
    return f"{shown['id']}  {issued}  {state}  {in_a_line(what)}"
