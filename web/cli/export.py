"""The command line's ``export`` and ``import``: a session to a file, and back."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from web.cli.base import PRINCIPAL, json_option, prepared, with_settings
from web.cli.text import printable
from web.settings import Settings

if TYPE_CHECKING:
    from actors.audit.exporting.restoring import Restorable
    from actors.audit.exporting.writing import Exported, Seen
    from actors.audit.signing.checkpoints import Checkpoints
    from persistence.event_log import EventLog

FORMATS = ("jsonl", "cloudevents", "markdown", "html")


@click.command("export")
@click.argument("key")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="jsonl",
    show_default=True,
    help="The first two prove themselves, the others are for people.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to; by default the standard output.",
)
@click.option("--sign", is_flag=True, help="Sign a checkpoint first, so that it covers all.")
@json_option
@with_settings("database_url", "encryption_key_file", "signing_key_file", "log_origin")
def export(
    key: str,
    form: str,
    output: Path | None,
    sign: bool,  # noqa: FBT001 - a flag of the command
    *,
    as_json: bool,
    **flags: str | None,
) -> None:
    r"""Write a session's whole log to a file, also a deleted session's.

    Reads the database only, so a gateway may run over it meanwhile. With --json it says what
    was written, for which --output names a file.

    \b
    Examples:
      sessiond export web:main --output session.jsonl
      sessiond export web:main --format html --output session.html
    """
    from actors.audit.exporting.writing import export_of

    if as_json and output is None:
        raise click.UsageError("With --json name the file: --output FILE.")
    with prepared(flags) as settings:
        if sign:
            sign_now(settings)
        with reading(settings) as (log, checkpoints), _refusals():
            exported = export_of(log, checkpoints, key, time.time_ns() // 1_000_000)
            events = exported.head.version
            with _written(output) as file, _progress(events, shown=output is not None) as seen:
                chunks = file_chunks(log, exported, form, seen)
                looked_at = output is None and sys.stdout.isatty()
                file.writelines(map(_shown, chunks) if looked_at else chunks)
    if as_json:
        shown = {"sessionKey": key, "events": events, "format": form, "file": str(output)}
        click.echo(json.dumps(shown))


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="KEY|FILE",
    help="Who must have signed the file's checkpoint; can be given more than once.",
)
@json_option
@with_settings("database_url", "encryption_key_file")
def import_(
    file: Path, public_keys: tuple[str, ...], *, as_json: bool, **flags: str | None
) -> None:
    r"""Restore an exported session, bit for bit, where there is none of its key.

    The file is checked first; of one that is damaged nothing is written. Over SQLite no
    gateway may run meanwhile.

    \b
    Example:
      sessiond import session.jsonl
    """
    from actors.audit.exporting.restoring import restorable
    from web.keys import checked_key

    with prepared(flags) as settings:
        with reading_bar(file, "Checking") as seen:
            report, found = restorable(file, key_texts(public_keys), seen)
        if found is None:
            raise click.ClickException("\n".join(["Nothing was written.", *report.lines]))
        key = checked_key(report.stream.partition(":")[2])
        restored(settings, found)
    said = f"Session {key} is here, with its {report.events} events."
    shown = {"sessionKey": key, "events": report.events}
    click.echo(json.dumps(shown) if as_json else said)


def _shown(chunk: bytes) -> bytes:
    """Return a part of a file for a terminal."""
    return printable(chunk.decode(errors="replace")).encode()


def key_texts(given: Iterable[str]) -> list[str]:
    """Return the texts of verifier keys, which are given themselves or as files of them."""
    return [Path(each).read_text() if Path(each).is_file() else each for each in given]


@contextlib.contextmanager
def reading(settings: Settings) -> Iterator[tuple["EventLog", "Checkpoints"]]:
    """Yield the log and its checkpoints to read, while others may write.

    Raises PersistenceError.
    """
    from actors.audit.signing.checkpoints import Checkpoints
    from persistence.engine import is_sqlite, parse_url, read_engine, write_engine
    from persistence.errors import StoreUnavailableError
    from persistence.event_log import SqlEventLog
    from persistence.migration import require_schema
    from persistence.tree import SqlTree
    from persistence.vault import open_vault

    url = parse_url(settings.database_url)
    if is_sqlite(url) and not Path(url.database or "").is_file():
        raise StoreUnavailableError(f"There is no database {url.database}.")
    engine = read_engine(url)
    log = None
    try:
        require_schema(engine)
        vault = open_vault(url, engine, settings.encryption_key_file, settings.encryption_keys_url)
        log = SqlEventLog(write_engine(url), engine, vault=vault)  # the first is never connected
        yield log, Checkpoints(log, SqlTree(engine))
    finally:
        if log is not None:
            log.close()


@contextlib.contextmanager
def reading_bar(file: Path, label: str) -> Iterator[Callable[[int], object]]:
    """Yield what is told how many bytes of a file were read, and shows it where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda _at: None
        return
    with click.progressbar(length=file.stat().st_size, label=label, file=sys.stderr) as bar:
        yield lambda at: bar.update(at - bar.pos)


def file_chunks(log: "EventLog", exported: "Exported", form: str, seen: "Seen") -> Iterator[bytes]:
    """Yield a file in small parts. Raises PersistenceError or ErasedMeanwhileError."""
    from actors.audit.exporting.file_format import FORMATS as WITH_PROOF
    from actors.audit.exporting.transcripts import transcript
    from actors.audit.exporting.writing import export_lines

    if form in WITH_PROOF:
        yield from export_lines(log, exported, WITH_PROOF[form], seen)
    else:
        yield from (text.encode() for text in transcript(log, exported, form, seen))


def sign_now(settings: Settings) -> None:
    """Sign a checkpoint, over SQLite only where no gateway runs. Raises PersistenceError."""
    from persistence.errors import StoreLockedError
    from web.bootstrap import Gateway

    try:
        gateway = Gateway(settings)
    except StoreLockedError as error:
        raise click.ClickException(
            "A gateway runs over this database: sessiond checkpoint has it sign; then export "
            "without --sign."
        ) from error
    try:
        gateway.admin.load()
        gateway.checkpoints.sign_now(PRINCIPAL)
    finally:
        gateway.stop(grace_s=0)


def restored(settings: Settings, found: "Restorable") -> None:
    """Write a session that is not there yet. Raises PersistenceError."""
    from persistence.errors import ConflictError
    from web.bootstrap import Gateway

    gateway = Gateway(settings)
    try:
        gateway.restore(found, PRINCIPAL)
    except ConflictError as error:
        key = found.restore.stream_id.partition(":")[2]
        raise click.ClickException(
            f"There is a log of session {key} already, and it stays as it is; nothing was written."
        ) from error
    finally:
        gateway.stop(grace_s=0)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    from actors.audit.exporting.writing import ErasedMeanwhileError
    from actors.errors import SessionNotFound

    try:
        yield
    except (ErasedMeanwhileError, SessionNotFound) as error:
        raise click.ClickException(str(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"The file can't be written: {error}.") from error


@contextlib.contextmanager
def _written(output: Path | None) -> Iterator[BinaryIO]:
    """Yield the file to write; one at its place is replaced once all of it is there."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.exists() and not output.is_file():  # a pipe or a device is no place for a file
        with output.open("wb") as file:
            yield file
        return
    output = output.resolve()  # what a link leads to is replaced, not the link
    beside = output.with_name(f"{output.name}.{os.getpid()}.part")
    opened = beside.open("xb")  # never through a link that somebody has put there
    try:
        with opened as file:
            yield file
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _progress(events: int, *, shown: bool) -> Iterator["Seen"]:
    """Yield what is told how far it is, and shows it where somebody looks."""
    if not shown or not sys.stderr.isatty():
        yield lambda _count: None
        return
    with click.progressbar(length=events, label="Exporting", file=sys.stderr) as bar:
        yield lambda count: bar.update(count - bar.pos)
