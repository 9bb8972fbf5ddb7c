"""The command line's ``serve``, ``migrate``, ``grants`` and ``import-pi``."""

import json
import os
import sys
import time
import uuid
from pathlib import Path

import click

from web.cli.base import (
    PRINCIPAL,
    clear_errors,
    json_option,
    settings_now,
    to_environment,
    with_settings,
)

CONF = Path(__file__).parents[1] / "gunicorn_conf.py"


@click.command()
@with_settings()
def serve(**flags: str | None) -> None:
    r"""Serve the gateway; an SQLite database is made and migrated by itself.

    \b
    Examples:
      sessiond serve
      sessiond serve --port 9000 --model openai/gpt-6.2-sol
      sessiond serve --bind 0.0.0.0 --token "$(openssl rand -hex 32)"
    """
    to_environment(flags)
    settings_now()
    arguments = ["gunicorn", "-c", str(CONF), "web.wsgi:app"]
    os.execv(sys.executable, [sys.executable, "-m", *arguments])  # noqa: S606 - no shell wanted


@click.command()
@json_option
@with_settings("database_url")
def migrate(*, as_json: bool, **flags: str | None) -> None:
    r"""Bring the database's schema up to this program's.

    Blocks while another process migrates. Of an SQLite database a gateway does it by itself.

    \b
    Example:
      sessiond migrate --database-url postgresql://localhost/sessiond
    """
    from persistence import migration
    from persistence.engine import is_sqlite, parse_url, write_engine
    from persistence.single_process import SingleProcessLock

    to_environment(flags)
    settings = settings_now()
    with clear_errors():
        url = parse_url(settings.database_url)
        lock = SingleProcessLock(url.database or "") if is_sqlite(url) else None
        if lock is not None:
            lock.acquire(sibling_wait_s=0)
        try:
            revision = migration.migrate(write_engine(url))
        finally:
            if lock is not None:
                lock.release()
    click.echo(json.dumps({"schema": revision}) if as_json else f"The schema is at {revision}.")


@click.command()
@click.argument("role")
@click.option("--erase", is_flag=True, help="For a role that erases payloads, and nothing else.")
@json_option
def grants(role: str, *, erase: bool, as_json: bool) -> None:
    r"""Print the SQL that lets a PostgreSQL role serve the gateway, but change no event.

    Have the owner of the tables carry it out, after each migration.

    \b
    Examples:
      sessiond grants gateway | psql DATABASE
      sessiond grants --erase eraser | psql DATABASE
    """
    from persistence import postgres

    with clear_errors():
        statements = postgres.erasing_grants(role) if erase else postgres.grants(role)
    click.echo(json.dumps({"statements": statements}) if as_json else "\n".join(statements))


@click.command("import-pi")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--session", "key", required=True, help="Key of the session to make.")
@json_option
@with_settings("database_url")
def import_pi(file: Path, key: str, *, as_json: bool, **flags: str | None) -> None:
    r"""Turn a recorded pi session (JSONL) into a session; a malformed file changes nothing.

    \b
    Example:
      sessiond import-pi session.jsonl --session recorded
    """
    from actors.pi_import import parse_pi_session
    from actors.session.commands import ImportSession
    from web.bootstrap import Gateway
    from web.keys import checked_key

    to_environment(flags)
    settings = settings_now()
    with clear_errors():
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
    shown = {"sessionKey": key, "messageCount": count}
    click.echo(json.dumps(shown) if as_json else f"Session {key} has {count} messages.")
