"""The command line's ``keys`` and ``checkpoint``: what signs the log, and signing now."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from web.cli.base import PRINCIPAL, json_option, prepared, with_settings
from web.cli.client import running_client, url_option
from web.cli.export import reading
from web.cli.text import in_a_line
from web.settings import Settings

if TYPE_CHECKING:
    from actors.audit.signing.keys import SigningKey
    from actors.gateway_state import UsedKey

KEY_SETTINGS = ("database_url", "signing_key_file", "log_origin")


@click.group()
def keys() -> None:
    r"""Make, show and rotate the key that signs checkpoints.

    \b
    It lies in the file of the setting signing_key_file; beside an SQLite database a gateway makes
    one by itself. Over PostgreSQL all workers need the same file.

    \b
    Example:
      sessiond keys public > log.pub
    """


@keys.command()
@json_option
@with_settings("database_url", "signing_key_file")
def generate(*, as_json: bool, **flags: str | None) -> None:
    r"""Make a key where there is none; then show its public half by keys public.

    \b
    Example:
      sessiond keys generate --signing-key-file /etc/sessiond/signing.key
    """
    from actors.audit.signing.keys import generate as make

    with prepared(flags) as settings:
        make(path := _path(settings))
        said = f"The key is in {path}: whoever has it can sign for the log."
        click.echo(json.dumps({"file": str(path)}) if as_json else said)


@keys.command()
@json_option
@with_settings(*KEY_SETTINGS)
def public(*, as_json: bool, **flags: str | None) -> None:
    r"""Print the verifier key of the key in use: whoever audits the log keeps it.

    \b
    Example:
      sessiond keys public > log.pub && sessiond verify web:main --public-key log.pub
    """
    from actors.audit.signing.keys import read_keys

    with prepared(flags) as settings:
        _show_key(_verifier_keys(settings, read_keys(_path(settings)))[0], as_json=as_json)


@keys.command("list")
@json_option
@with_settings("database_url")
def list_keys(*, as_json: bool, **flags: str | None) -> None:
    r"""List the verifier keys of all checkpoints that the log has, the newest last.

    \b
    Example:
      sessiond keys list --json
    """
    from web.resources.checkpoints import shown_key

    with prepared(flags) as settings:
        shown = [shown_key(each) for each in _known(settings)]
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(shown)))
        return
    for each in shown:
        since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(each.introduced_at / 1000))
        follows = f"  replaces {each.replaces}" if each.replaces else ""
        click.echo(in_a_line(f"{since}  {each.verifier_key}{follows}"))


@keys.command()
@json_option
@with_settings(*KEY_SETTINGS)
def rotate(*, as_json: bool, **flags: str | None) -> None:
    r"""Put a new key into use and print its verifier key; the old one goes on signing too.

    A running gateway takes it with its next checkpoint. Over several hosts, copy the file to
    all of them.

    \b
    Example:
      sessiond keys rotate && sessiond checkpoint
    """
    from actors.audit.signing import keys as files

    with prepared(flags) as settings:
        path, origin = _path(settings), _known_origin(settings)
        (old, *_) = files.read_keys(path)
        key = files.rotate(path)
        _show_key(str(key.named(origin or old.origin)), as_json=as_json)


@keys.command()
@json_option
@with_settings(*KEY_SETTINGS)
def retire(*, as_json: bool, **flags: str | None) -> None:
    r"""Remove the key before the one in use, once everybody knows the new one.

    \b
    Example:
      sessiond keys retire
    """
    from actors.audit.signing import keys as files

    with prepared(flags) as settings:
        _check_rotated(settings)
        if not files.retire(_path(settings)):
            raise click.ClickException("There is no key before the one in use.")
    click.echo(json.dumps({"ok": True}) if as_json else "The old key signs no more.")


@click.command()
@url_option
@click.option(
    "--rebuild", is_flag=True, help="First make what is missing of the tree's tables anew."
)
@json_option
@with_settings(*KEY_SETTINGS, "bind", "port", "token")
def checkpoint(
    url: str | None,
    rebuild: bool,  # noqa: FBT001 - a flag of the command
    *,
    as_json: bool,
    **flags: str | None,
) -> None:
    r"""Sign a checkpoint now, and print the latest one: keep it where the log's host can't.

    \b
    A running gateway is asked by HTTP, with the token of its settings (--token or
    SESSIOND_TOKEN); without one that runs, its database is opened.

    \b
    Example:
      sessiond checkpoint > checkpoint-$(date +%F).txt
    """
    with prepared(flags) as settings:
        running = running_client(settings, url)
        if running is None:
            note, signed = _sign_stopped(settings, rebuild=rebuild)
        elif rebuild:
            raise click.ClickException("Stop the gateway first: the tables are made anew then.")
        else:
            answer = running.call("POST", "/audit/checkpoints")
            note, signed = answer["note"], answer["signed"]
    if as_json:
        click.echo(json.dumps({"signed": signed, "note": note}))
        return
    if not signed:
        click.echo("Nothing has moved since the latest checkpoint.", err=True)
    click.echo(note, nl=False)


def _sign_stopped(settings: Settings, *, rebuild: bool) -> tuple[str, bool]:
    """Sign in this process. Raises PersistenceError or Rejection."""
    from web.bootstrap import Gateway

    gateway = Gateway(settings)
    try:
        gateway.admin.load()
        if rebuild:
            count = gateway.checkpoints.rebuild()
            click.echo(f"{count} leaves were missing and are there again.", err=True)
        signed = gateway.checkpoints.sign_now(PRINCIPAL)
        latest = gateway.checkpoints.latest()
    finally:
        gateway.stop(grace_s=0)
    return "" if latest is None else latest.note, signed is not None


def _show_key(verifier_key: str, *, as_json: bool) -> None:
    click.echo(json.dumps({"verifierKey": verifier_key}) if as_json else verifier_key)


def _path(settings: Settings) -> Path:
    from web.signing import key_path

    path = key_path(settings)
    if path is None:
        raise click.ClickException("Name the key's file: --signing-key-file.")
    return path


def _verifier_keys(settings: Settings, signing: Sequence["SigningKey"]) -> list[str]:
    """Return the keys as those who verify know them. Raises PersistenceError."""
    origin = _known_origin(settings) or signing[-1].origin
    return [str(key.named(origin)) for key in signing]


def _known_origin(settings: Settings) -> str:
    """Return what the log is called, empty before its first key. Raises PersistenceError."""
    from actors.audit.signing.signer import origin_of

    return settings.log_origin or origin_of("", _known(settings))


def _known(settings: Settings) -> Sequence["UsedKey"]:
    """Return the keys that the log has, none where there is no log. Raises PersistenceError."""
    from actors.gateway_actor import read_state
    from actors.gateway_state import STREAM
    from persistence.engine import is_sqlite, parse_url

    url = parse_url(settings.database_url)
    if is_sqlite(url) and not Path(url.database or "").is_file():
        return ()
    with reading(settings) as (log, _checkpoints):
        head = log.head(STREAM)
        return () if head is None else read_state(log, head).signing_keys


def _check_rotated(settings: Settings) -> None:
    """Refuse to retire a key before the log has its successor's introduction by it."""
    from actors.audit.signing.keys import read_keys

    current = _verifier_keys(settings, read_keys(_path(settings)))[0]
    if current not in {each.verifier_key for each in _known(settings)}:
        raise click.ClickException(
            "The new key has not signed yet: sessiond checkpoint has it introduced by the old one."
        )
