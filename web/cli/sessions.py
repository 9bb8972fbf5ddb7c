"""The command line's ``sessions``: which there are, and those that somebody looks for."""

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import click

from web.cli.base import json_option, prepared, with_settings
from web.cli.client import running_client, url_option, with_query
from web.cli.text import in_a_line
from web.settings import Settings

PAGE = 1_000
PREVIEW_CHARACTERS = 60
SEARCHED = ("sessionKey", "name", "lastMessagePreview")


@click.command()
@click.argument("search", required=False)
@click.option("--prefix", help="Only sessions whose keys begin so.")
@click.option("--active", is_flag=True, help="Only sessions in which something runs or waits.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="How many to show at most.",
)
@json_option
@url_option
@with_settings("database_url", "encryption_key_file", "bind", "port", "token")
def sessions(
    search: str | None,
    prefix: str | None,
    limit: int,
    url: str | None,
    *,
    active: bool,
    as_json: bool,
    **flags: str | None,
) -> None:
    r"""List sessions, the oldest first, and search among them.

    SEARCH is looked for in keys, names and the last message's first words, in any case. A running
    gateway is asked by HTTP, with a token of the scope read; without one that runs, its database
    is read. With --json each line is a session.

    \b
    Examples:
      sessiond sessions
      sessiond sessions invoice --limit 20
      sessiond sessions --prefix team-a: --active --json
    """
    with prepared(flags) as settings:
        found = _sessions(settings, url, prefix, active=active)
        wanted = (each for each in found if _fits(each, search))
        for each in itertools.islice(wanted, limit):
            click.echo(json.dumps(each) if as_json else _line(each))


def _sessions(
    settings: Settings, url: str | None, prefix: str | None, *, active: bool
) -> Iterator[dict[str, Any]]:
    """Yield sessions, a page at a time. Raises PersistenceError."""
    client = running_client(settings, url)
    if client is None:
        yield from _stored(settings, prefix or "", active=active)
        return
    query = {"limit": PAGE, "prefix": prefix, "active": "true" if active else None}
    cursor = None
    while True:
        page = client.call("GET", with_query("/sessions", cursor=cursor, **query))
        yield from page["sessions"]
        cursor = page.get("nextCursor")
        if cursor is None:
            return


def _stored(settings: Settings, prefix: str, *, active: bool) -> Iterator[dict[str, Any]]:
    from actors.replay import STREAM_PREFIX
    from web.cli.export import reading

    with reading(settings) as (log, _checkpoints):
        row = 0
        while True:
            entries = log.entries(
                after_row=row, limit=PAGE, prefix=STREAM_PREFIX + prefix, active=active or None
            )
            for each in entries:
                yield json.loads(each.summary.body)
            if len(entries) < PAGE:
                return
            row = entries[-1].row


def _fits(session: dict[str, Any], search: str | None) -> bool:
    if not search:
        return True
    wanted = search.casefold()
    return any(wanted in str(session.get(field, "")).casefold() for field in SEARCHED)


def _line(session: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(session["lastActiveAt"] / 1000))
    waiting = len(session.get("approvals", []))
    state = "asks" if waiting else "runs" if session["processing"] else "idle"
    queue = f"+{session['queueDepth']}" if session["queueDepth"] else ""
    preview = " ".join(str(session.get("lastMessagePreview", "")).split())[:PREVIEW_CHARACTERS]
    name = f"  [{session['name']}]" if session.get("name") else ""
    shown = f"{session['sessionKey']}{name}  {preview}".rstrip()
    return f"{when}  {state + queue:7} {session['messageCount']:6}  {in_a_line(shown)}"
