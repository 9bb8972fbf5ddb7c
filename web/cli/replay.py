"""The command line's ``replay``: a session in the terminal, as it happened."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from web.cli.base import echo_machine, prepared, with_settings
from web.cli.client import client_of, url_option
from web.cli.log_lines import asked_lines
from web.settings import Settings

if TYPE_CHECKING:
    from actors.audit.travel.places import Place
    from actors.audit.travel.replaying import Pace, Playback
    from actors.session.state import SessionState
    from persistence.records import StoredEvent

CALL_TIMEOUT_S = 30.0


@click.command("replay")
@click.argument("key")
@click.option("--at", "start", metavar="SEQ|TIME", help="After which event to begin.")
@click.option("--to", "end", metavar="SEQ|TIME", help="With which event to end.")
@click.option("--speed", default="1x", show_default=True, help="From 0.1x to 1000x, or max.")
@click.option("--gap-max", default=5.0, show_default=True, help="Longest wait, in seconds.")
@click.option("--json", "raw", is_flag=True, help="Print the events' lines, in their time.")
@url_option
@with_settings("database_url", "encryption_key_file", "token")
def replay(
    key: str,
    start: str | None,
    end: str | None,
    speed: str,
    gap_max: float,
    raw: bool,  # noqa: FBT001 - a flag of the command
    url: str | None,
    **flags: str | None,
) -> None:
    r"""Play a session as it happened, also a deleted one.

    Reads the database only, so a gateway may run over it meanwhile. With --url (or SESSIOND_URL)
    it reads the raw log of a gateway instead, with a token (--token) of the scope audit.

    \b
    Examples:
      sessiond replay web:main --speed 4x
      sessiond replay web:main --at 2026-11-24T10:30:00Z --speed max --json
    """
    with prepared(flags) as settings, _refusals():
        pace = _pace(speed, gap_max)
        with _rows(settings, url, key, start, end) as (rows, state):
            _play(rows, state, pace, raw=raw)


def _pace(speed: str, gap_max_s: float) -> "Pace":
    from actors.audit.travel.replaying import Pace, speed_of

    return Pace(speed_of(speed), max(0.0, gap_max_s))


@contextlib.contextmanager
def _rows(
    settings: Settings, url: str | None, key: str, start: str | None, end: str | None
) -> Iterator[tuple[Iterator["StoredEvent"], "SessionState"]]:
    """Yield the events to play, and the state before them."""
    from actors.audit.exporting.lines import decode_line
    from actors.audit.travel.places import place_of
    from actors.session.state import SessionState

    first, last = (None if each is None else place_of(each) for each in (start, end))
    if url is None:
        with _stored(settings, key, first, last) as found:
            yield found
        return
    lines = asked_lines(client_of(settings, url), key, None, 0, follow=False)
    events = (decode_line(line)[1] for line in lines)
    yield _between(events, first, last), SessionState(key)


@contextlib.contextmanager
def _stored(
    settings: Settings, key: str, first: "Place | None", last: "Place | None"
) -> Iterator[tuple[Iterator["StoredEvent"], "SessionState"]]:
    from actors.audit.travel.places import seq_at
    from actors.errors import SessionNotFound
    from actors.replay import state_at, stream_of
    from web.cli.export import reading

    with reading(settings) as (log, _checkpoints):
        head = log.head(stream_of(key))
        if head is None or not head.version:
            raise SessionNotFound(key)
        end = head.version if last is None else seq_at(log, head, last)
        if first is None:
            start = max(0, state_at(log, head, end).first_seq - 1)
        else:
            start = seq_at(log, head, first)
        yield log.read(head, after=start, before=end + 1), state_at(log, head, start)


def _between(
    rows: Iterator["StoredEvent"], first: "Place | None", last: "Place | None"
) -> Iterator["StoredEvent"]:
    """Return the events after one place, up to another."""

    def is_by(place: "Place", row: "StoredEvent") -> bool:
        if place.seq is not None:
            return row.seq <= place.seq
        assert place.at_us is not None
        return row.recorded_at <= place.at_us

    if first is not None:
        rows = itertools.dropwhile(lambda row: is_by(first, row), rows)
    return rows if last is None else itertools.takewhile(lambda row: is_by(last, row), rows)


def _play(rows: Iterator["StoredEvent"], state: "SessionState", pace: "Pace", *, raw: bool) -> None:
    """Write the events to the standard output as they are due."""
    from actors.audit.travel.replaying import Playback

    playback = Playback(rows, state, pace)
    if raw:
        _write_lines(playback, state.key)
    else:
        _draw(playback)


def _write_lines(playback: "Playback", key: str) -> None:
    from actors.audit.exporting.lines import encode_line
    from actors.replay import stream_of

    for batch in playback.batches(CALL_TIMEOUT_S):
        for played in batch:
            echo_machine(encode_line(stream_of(key), played.stored))


def _draw(playback: "Playback") -> None:
    from web.cli.screen import Screen

    screen = Screen()
    plain = False if os.environ.get("NO_COLOR") else None
    for batch in playback.batches(CALL_TIMEOUT_S):
        shown = "".join([screen.show(played.committed) for played in batch])
        click.echo(shown, nl=False, color=plain)
    click.echo(screen.end(), nl=False)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    from actors.audit.exporting.lines import LineError
    from actors.audit.travel.places import BeyondEndError, PlaceError
    from actors.audit.travel.replaying import SpeedError
    from actors.errors import SessionNotFound

    try:
        yield
    except (SpeedError, PlaceError, BeyondEndError, SessionNotFound, LineError) as error:
        raise click.ClickException(str(error)) from error
