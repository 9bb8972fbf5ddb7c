"""The command line: ``sessiond serve``, ``migrate``, ``grants``, ``import-pi``, ``token``."""

import contextlib
import logging
import os
import sys
import time
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from web.cli_audit import verify_command
from web.cli_export import export_command, import_command
from web.cli_keys import checkpoint_command, keys_commands
from web.cli_replay import replay_command
from web.cli_tokens import TokenStore, token_commands, token_store
from web.cli_vault import encryption_commands
from web.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, SettingsError, load_settings

CONF = Path(__file__).with_name("gunicorn_conf.py")
PRINCIPAL = "cli"
"""Who the log says gave a command that came from here."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sessiond")
def main() -> None:
    """Serve long-lived AI-agent sessions; the event log proves what happened."""


def _metavar(annotation: Any) -> str:  # noqa: ANN401 - any type
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return "JSON"
    if isinstance(annotation, types.UnionType):
        annotation = typing.get_args(annotation)[0]
    names = {int: "N", float: "N"}
    return names.get(annotation, "TEXT")


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each of the settings, by default for all of them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name, field in reversed(Settings.model_fields.items()):
            if names and name not in names:
                continue
            default = "" if field.default is None else f" [default: {field.default}]"
            command = click.option(
                f"--{name.replace('_', '-')}",
                name,
                metavar=_metavar(field.annotation),
                help=f"{field.description}{default}",
            )(command)
        return click.option(
            "--config", metavar="FILE", help="TOML file with settings, by their names."
        )(command)

    return decorate


@main.command()
@with_settings()
def serve(**flags: str | None) -> None:
    r"""Serve the gateway; an SQLite database is made and migrated by itself.

    \b
    Examples:
      sessiond serve
      sessiond serve --port 9000 --model openai/gpt-6.2-sol
      sessiond serve --bind 0.0.0.0 --token "$(openssl rand -hex 32)"
    """
    _to_environment(flags)
    _settings()
    arguments = ["gunicorn", "-c", str(CONF), "web.wsgi:app"]
    os.execv(sys.executable, [sys.executable, "-m", *arguments])  # noqa: S606 - no shell wanted


@main.command()
@with_settings("database_url")
def migrate(**flags: str | None) -> None:
    """Bring the database's schema up to this program's."""
    from persistence import migration
    from persistence.engine import is_sqlite, parse_url, write_engine
    from persistence.single_process import SingleProcessLock

    _to_environment(flags)
    settings = _settings()
    with _clear_errors():
        url = parse_url(settings.database_url)
        lock = SingleProcessLock(url.database or "") if is_sqlite(url) else None
        if lock is not None:
            lock.acquire(sibling_wait_s=0)
        try:
            revision = migration.migrate(write_engine(url))
        finally:
            if lock is not None:
                lock.release()
    click.echo(f"The schema is at {revision}.")


@main.command()
@click.argument("role")
@click.option("--erase", is_flag=True, help="For a role that erases payloads, and nothing else.")
def grants(role: str, *, erase: bool) -> None:
    r"""Print the SQL that lets a PostgreSQL role serve the gateway, but change no event.

    Have the owner of the tables carry it out, after each migration.

    \b
    Examples:
      sessiond grants gateway | psql DATABASE
      sessiond grants --erase eraser | psql DATABASE
    """
    from persistence import postgres

    with _clear_errors():
        statements = postgres.erasing_grants(role) if erase else postgres.grants(role)
    click.echo("\n".join(statements))


@main.command("import-pi")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--session", "key", required=True, help="Key of the session to make.")
@with_settings("database_url")
def import_pi(file: Path, key: str, **flags: str | None) -> None:
    r"""Turn a recorded pi session (JSONL) into a session; a malformed file changes nothing.

    \b
    Example:
      sessiond import-pi session.jsonl --session recorded
    """
    from actors.pi_import import parse_pi_session
    from actors.session.commands import ImportSession
    from web.bootstrap import Gateway
    from web.keys import checked_key

    _to_environment(flags)
    settings = _settings()
    with _clear_errors():
        now = time.time_ns() // 1_000_000
        recorded = parse_pi_session(file.read_bytes(), at=now)
        command = ImportSession(
            now,
            str(uuid.uuid4()),
            "pi",
            recorded.original_id,
            recorded.recorded,
            principal=PRINCIPAL,
        )
        gateway = Gateway(settings)
        try:
            gateway.registry.ask(checked_key(key), command)
            count = gateway.registry.state(key).message_count
        finally:
            gateway.stop()
    click.echo(f"Session {key} has {count} messages.")


@contextlib.contextmanager
def _opened(url: str | None, flags: dict[str, str | None]) -> Iterator[TokenStore]:
    _to_environment(flags)
    settings = _settings()
    with _clear_errors(), token_store(settings, url, PRINCIPAL) as store:
        yield store


@contextlib.contextmanager
def _prepared(flags: dict[str, str | None]) -> Iterator[Settings]:
    """Yield the settings, and show what can be expected to go wrong in a line."""
    _to_environment(flags)
    settings = _settings()
    with _clear_errors():
        yield settings


main.add_command(token_commands(with_settings, _opened))
main.add_command(verify_command(with_settings, _prepared))
main.add_command(export_command(with_settings, _prepared))
main.add_command(import_command(with_settings, _prepared))
main.add_command(replay_command(with_settings, _prepared))
main.add_command(keys_commands(with_settings, _prepared))
main.add_command(checkpoint_command(with_settings, _prepared))
main.add_command(encryption_commands(with_settings, _prepared))


def _keep_lines_of_examples(command: click.Command) -> None:
    r"""Make the two characters ``\b`` of raw docstrings the one that click looks for."""
    command.help = (command.help or "").replace("\\b", "\b")
    for inner in getattr(command, "commands", {}).values():
        _keep_lines_of_examples(inner)


_keep_lines_of_examples(main)


class _clear_errors:  # noqa: N801 - used as a function
    """Turn what can be expected to go wrong into one line and exit status 1."""

    def __enter__(self) -> None:
        logging.disable(logging.CRITICAL)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        logging.disable(logging.NOTSET)
        if error is None or isinstance(error, SystemExit):
            return
        from actors.pi_import import PiFormatError
        from actors.session.rejections import Rejection
        from persistence.errors import PersistenceError
        from web.errors import Problem

        if isinstance(error, PersistenceError | Rejection | Problem | PiFormatError):
            raise click.ClickException(str(error)) from error


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def _to_environment(flags: dict[str, str | None]) -> None:
    """Hand flags on by the environment: worker processes read their settings there."""
    config = flags.pop("config", None)
    if config is not None:
        os.environ[CONFIG_VARIABLE] = config
    for name, value in flags.items():
        if value is not None:
            os.environ[f"{ENV_PREFIX}{name.upper()}"] = value


if __name__ == "__main__":
    main()
