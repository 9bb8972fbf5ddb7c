"""The command line's ``replay``: a session in the terminal, as it happened."""

import contextlib
import itertools
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from web.cli_base import Decorator, Prepared
from web.settings import Settings

if TYPE_CHECKING:
    from actors.audit.travel.places import Place
    from actors.audit.travel.replaying import Pace, Playback
    from actors.session.state import SessionState
    from persistence.records import StoredEvent

INTERRUPTED = 130
CALL_TIMEOUT_S = 30.0


def replay_command(with_settings: Callable[..., Decorator], prepared: Prepared) -> click.Command:
    """Return the command ``replay``; ``prepared`` takes the flags, and shows errors in a line."""

    @click.command("replay")
    @click.argument("key")
    @click.option("--at", "start", metavar="SEQ|TIME", help="After which event to begin.")
    @click.option("--to", "end", metavar="SEQ|TIME", help="With which event to end.")
    @click.option("--speed", default="1x", show_default=True, help="From 0.1x to 1000x, or max.")
    @click.option("--gap-max", default=5.0, show_default=True, help="Longest wait, in seconds.")
    @click.option("--json", "raw", is_flag=True, help="Print the events' lines, in their time.")
    @click.option("--url", help="A running gateway; by default the database is read.")
    @with_settings("database_url", "token")
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

        Reads the database only, so a gateway may run over it meanwhile. With --url it reads the
        raw log of a gateway instead, with a token (--token) of the scope audit.

        \b
        Examples:
          sessiond replay web:main --speed 4x
          sessiond replay web:main --at 2026-11-24T10:30:00Z --speed max --json
        """
        with prepared(flags) as settings, _refusals():
            pace = _pace(speed, gap_max)
            with _rows(settings, url, key, start, end) as (rows, state):
                _play(rows, state, pace, raw=raw)

    return replay


def _pace(speed: str, gap_max_s: float) -> "Pace":
    from actors.audit.travel.replaying import Pace, speed_of

    return Pace(speed_of(speed), max(0.0, gap_max_s))


@contextlib.contextmanager
def _rows(
    settings: Settings, url: str | None, key: str, start: str | None, end: str | None
) -> Iterator[tuple[Iterator["StoredEvent"], "SessionState"]]:
    """Yield the events to play, and the state before them."""
    from actors.audit.travel.places import place_of
    from actors.session.state import SessionState

    first, last = (None if each is None else place_of(each) for each in (start, end))
    if url is None:
        with _stored(settings, key, first, last) as found:
            yield found
        return
    token = None if settings.token is None else settings.token.get_secret_value()
    with _asked(url, token, key) as lines:
        yield _between(lines, first, last), SessionState(key)


@contextlib.contextmanager
def _stored(
    settings: Settings, key: str, first: "Place | None", last: "Place | None"
) -> Iterator[tuple[Iterator["StoredEvent"], "SessionState"]]:
    from actors.audit.travel.places import seq_at
    from actors.errors import SessionNotFound
    from actors.replay import state_at, stream_of
    from web.cli_export import reading

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


@contextlib.contextmanager
def _asked(url: str, token: str | None, key: str) -> Iterator[Iterator["StoredEvent"]]:
    """Yield the events of a running gateway's raw log."""
    from actors.audit.exporting.lines import decode_line

    address = f"{url.rstrip('/')}/sessions/{quote(key)}/log"
    request = urllib.request.Request(address)  # noqa: S310 - what the user names
    request.add_header("Accept", "application/x-ndjson")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:  # noqa: S310 - see above
            yield (decode_line(line)[1] for line in answer if line.strip())
    except urllib.error.HTTPError as error:
        raise click.ClickException(_refusal(url, key, error.code)) from error
    except OSError as error:
        raise click.ClickException(f"No gateway answers at {url}: {error}") from error


def _refusal(url: str, key: str, status: int) -> str:
    if status in (401, 403):
        return f"The gateway at {url} wants a token with the scope audit: give it by --token."
    if status == 404:
        return f"The gateway at {url} has no session {key}."
    return f"The gateway at {url} answered {status}."


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
    """Write the events to the standard output as they are due; Ctrl-C ends it at once."""
    from actors.audit.travel.replaying import Playback

    playback = Playback(rows, state, pace)
    try:
        if raw:
            _write_lines(playback, state.key)
        else:
            _draw(playback)
    except KeyboardInterrupt:
        click.echo()
        sys.exit(INTERRUPTED)


def _write_lines(playback: "Playback", key: str) -> None:
    from actors.audit.exporting.lines import encode_line
    from actors.replay import stream_of

    for batch in playback.batches(CALL_TIMEOUT_S):
        for played in batch:
            click.echo(encode_line(stream_of(key), played.stored))


def _draw(playback: "Playback") -> None:
    from web.cli_screen import Screen

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
