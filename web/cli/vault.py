"""The command line's ``encryption``: making the master key, and exchanging it."""

import base64
import json
import os
import secrets
from pathlib import Path

import click

from web.cli.base import json_option, prepared, with_settings
from web.settings import Settings

VAULT_SETTINGS = ("database_url", "encryption_key_file", "encryption_keys_url")


@click.group()
def encryption() -> None:
    r"""Make and exchange the master key that encrypts the log.

    \b
    Example:
      sessiond encryption generate master.key
    """


@encryption.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def generate(file: Path, *, as_json: bool) -> None:
    r"""Write a new master key to FILE, which must not be there.

    Keep a copy apart from the database: without it what is encrypted is lost.

    \b
    Example:
      sessiond encryption generate master.key
      SESSIOND_ENCRYPTION_KEY_FILE=master.key sessiond serve
    """
    _write_new(file, secrets.token_bytes(32))
    said = f"The master key is in {file}."
    click.echo(json.dumps({"file": str(file)}) if as_json else said)


@encryption.command()
@click.argument("new_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@with_settings(*VAULT_SETTINGS)
def rewrap(new_file: Path, *, as_json: bool, **flags: str | None) -> None:
    r"""Wrap all streams' keys by the master key in NEW_FILE; stop the gateway before.

    What is encrypted stays as it is. Set encryption_key_file to the new file afterwards.

    \b
    Example:
      sessiond encryption rewrap new.key --encryption-key-file master.key
    """
    with prepared(flags) as settings:
        count = _rewrap(settings, new_file)
    said = f"{count} keys are wrapped by the key in {new_file}."
    click.echo(json.dumps({"keys": count}) if as_json else said)


def _write_new(file: Path, key: bytes) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.ClickException(f"{file} can't be made: {error.strerror}") from error
    with open(descriptor, "w", encoding="ascii") as made:  # noqa: PTH123 - a descriptor
        made.write(base64.b64encode(key).decode() + "\n")
        made.flush()
        os.fsync(made.fileno())


def _rewrap(settings: Settings, new_file: Path) -> int:
    """Return how many keys were rewrapped. Raises PersistenceError."""
    from persistence.diagnosis import diagnose
    from persistence.engine import is_sqlite, parse_url, read_engine
    from persistence.single_process import SingleProcessLock
    from persistence.vault import VaultError, open_vault, read_master_key

    if settings.encryption_key_file is None:
        raise VaultError("Set encryption_key_file to the file with the master key as it is now.")
    new_key = read_master_key(str(new_file))
    url = parse_url(settings.database_url)
    lock = SingleProcessLock(url.database or "") if is_sqlite(url) else None
    if lock is not None:
        lock.acquire(sibling_wait_s=0)
    reader = read_engine(url)
    try:
        if serving := () if lock is not None else diagnose(reader).workers:
            raise VaultError(f"Stop the gateway first: {', '.join(serving)} serve this log.")
        vault = open_vault(url, reader, settings.encryption_key_file, settings.encryption_keys_url)
        assert vault is not None
        count = vault.rewrap(new_key)
        vault.close()
        return count
    finally:
        reader.dispose()
        if lock is not None:
            lock.release()
