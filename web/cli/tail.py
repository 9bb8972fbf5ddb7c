"""The command line's ``tail``: the log as it grows, from a running gateway or its database."""

import json
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from web.cli.base import echo_machine, json_option, prepared, with_settings
from web.cli.client import (
    Client,
    Refused,
    running_client,
    url_option,
    with_query,
)
from web.cli.follow import end_of
from web.cli.log_lines import BEGINNING, asked_lines
from web.cli.text import in_a_line
from web.settings import Settings

if TYPE_CHECKING:
    from persistence.event_log import EventLog
    from web.raw_log import Source

END = "end"
LINES = 10
PAYLOAD_CHARACTERS = 160
BATCH_EVENTS = 500
POLL_S = 0.25
COMMON_FIELDS = ("at", "request")

CURSOR = r"[0-9]{1,19}-[0-9]{1,19}|end"


@click.command()
@click.argument("key", required=False)
@click.option("--all", "everything", is_flag=True, help="All streams instead of one session.")
@click.option("--types", metavar="TYPE,…", help="Only events of these types.")
@click.option("--after", metavar="SEQ|CURSOR", help="Begin after this place; 0 for the beginning.")
@click.option("--stop", is_flag=True, help="End with what there is, instead of following.")
@click.option("--database", is_flag=True, help="Read the database, also where a gateway runs.")
@json_option
@url_option
@with_settings("database_url", "encryption_key_file", "bind", "port", "token")
def tail(
    key: str | None,
    types: str | None,
    after: str | None,
    url: str | None,
    *,
    everything: bool,
    stop: bool,
    database: bool,
    as_json: bool,
    **flags: str | None,
) -> None:
    r"""Follow the log as it grows, of one session or, with --all, of all streams.

    It begins with a session's last 10 events, of all streams with what is new, or after the place
    that --after names: a session's seq, or the cursor of a line of --all. Ctrl-C ends it.

    A running gateway is asked by HTTP, with a token of the scope audit; without one that runs, or
    with --database, the database is read. A lost connection is taken up again where it broke off,
    so that no event is missing and none comes twice. With --json the lines are those of the raw
    log.

    \b
    Examples:
      sessiond tail demo
      sessiond tail --all --types tool.started,tool.completed
      sessiond tail demo --after 0 --stop --json > demo.jsonl
    """
    if everything == (key is not None):
        raise click.UsageError("Name a session, or give --all.")
    after = _place(after, everything=everything)
    with prepared(flags) as settings:
        client = None if database else running_client(settings, url)
        if client is not None:
            begin = after if after is not None else _start(client, key, follow=not stop)
            lines = asked_lines(client, key, types, begin, follow=not stop)
        else:
            lines = _stored(settings, key, types, after, follow=not stop)
        for line in lines:
            if as_json:
                echo_machine(line)
            else:
                click.echo(shown(line))


def _place(after: str | None, *, everything: bool) -> str | None:
    """Return where to begin. Raises UsageError for what names no place."""
    if after is None or re.fullmatch(CURSOR if everything else r"[0-9]{1,19}", after):
        return after
    if everything and after == "0":
        return BEGINNING
    where = "a line's cursor with --all, or 0 for the beginning" if everything else "a seq"
    raise click.UsageError(f"--after names {where}, not {after!r}.")


def _start(client: Client, key: str | None, *, follow: bool) -> str | int:
    """Return where to begin: some lines before a session's end, or with what is new."""
    if key is None:
        return _end_of_all(client) if follow else BEGINNING
    try:
        return max(0, end_of(client, key) - LINES)
    except Refused as error:
        if error.status != 404:  # a deleted session has a log
            raise
        return 0


def _end_of_all(client: Client) -> str:
    """Return the cursor of the end, so that what comes while a connection is lost isn't missed."""
    path = with_query("/log", after=END, limit=1)
    return str(client.call("GET", path, headers={"Accept": "application/json"})["next"])


def _stored(
    settings: Settings, key: str | None, types: str | None, after: str | None, *, follow: bool
) -> Iterator[bytes]:
    """Yield lines of the database's log. Raises PersistenceError."""
    import msgspec

    from web.cli.export import reading
    from web.raw_log import EventsWanted, filter_of

    wanted = filter_of(EventsWanted(types=types))
    with reading(settings) as (log, _checkpoints):
        source = _source(log, key, after, wanted.types, follow=follow)
        while True:
            for found in source.read(BATCH_EVENTS):
                if wanted.passes(found.stream_id, found.event):
                    yield msgspec.json.encode(found.line())
            if source.at_end:
                if not follow:
                    return
                time.sleep(POLL_S)


def _source(
    log: "EventLog", key: str | None, after: str | None, types: frozenset[str], *, follow: bool
) -> "Source":
    """Return what reads on from where it is to begin. Raises SessionNotFound or Problem."""
    from actors.errors import SessionNotFound
    from actors.replay import stream_of
    from web.raw_log import LogSource, StreamQuery, StreamSource, cursor_of

    if key is None:
        begin = after if after is not None else END if follow else BEGINNING
        return LogSource(log, cursor_of(begin, log), types, None)
    head = log.head(stream_of(key))
    if head is None or not head.version:
        raise SessionNotFound(key)
    start = max(0, head.version - LINES) if after is None else int(after)
    return StreamSource(log, head, StreamQuery(after=start, follow=follow))


def shown(text: bytes) -> str:
    """Return a line of the raw log as people read it; the payload is cut."""
    line: dict[str, Any] = json.loads(text)
    seconds, micros = divmod(line["recordedAtUs"], 1_000_000)
    when = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{micros // 1000:03}Z"
    payload = _payload(line)
    cut = "…" if len(payload) > PAYLOAD_CHARACTERS else ""
    who = f"  {line['principal']}" if line.get("principal") else ""
    place = f"{line['stream']} {line['seq']}"
    said = f"{place}  {line['type']}{who}  {payload[:PAYLOAD_CHARACTERS]}{cut}"
    return f"{when}  {in_a_line(said)}"


def _payload(line: dict[str, Any]) -> str:
    """Return an event's fields without those that every event has."""
    if "payloadBase64" in line:
        return "[bytes]"
    if "payload" not in line:
        return "[erased]"
    fields = {name: each for name, each in line["payload"].items() if name not in COMMON_FIELDS}
    return json.dumps(fields, ensure_ascii=False)
