"""The command line's ``verify``: whether a log, or a file of one, is what was appended."""

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from web.cli.base import json_option, prepared, with_settings
from web.cli.export import key_texts, reading, reading_bar
from web.cli.text import in_a_line
from web.settings import Settings

if TYPE_CHECKING:
    from actors.audit.verifying.verifier import LogVerifier, Outcome
    from persistence.raw_rows import RawRows

SOUND, DAMAGED, UNCHECKED = 0, 1, 2
"""Exit statuses; 2 also stands for a command that is wrong."""

SEEN_EVENTS = 1_000
"""After so many events of a file it is shown again how far it is."""

WHAT_NOW = (
    "Keep the database as it is, and a copy. Of a stream all before the named seq is as it was"
    " written; compare the rest with a backup, an export or a checkpoint from elsewhere."
)


@click.command("verify")
@click.argument("target", required=False)
@click.option("--all", "everything", is_flag=True, help="Every stream of the log.")
@click.option(
    "--from-checkpoint", is_flag=True, help="Only what follows the latest signed checkpoint."
)
@click.option(
    "--checkpoint",
    "note",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A signed checkpoint that was kept elsewhere: the log must still hold all it has.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="KEY|FILE",
    help="Who must have signed; by default those whom the log itself names.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 64), help="How many processes; by default one for a core."
)
@json_option
@with_settings("database_url", "encryption_key_file")
def verify(
    target: str | None,
    everything: bool,  # noqa: FBT001 - a flag of the command
    from_checkpoint: bool,  # noqa: FBT001 - a flag of the command
    note: Path | None,
    public_keys: tuple[str, ...],
    jobs: int | None,
    as_json: bool,  # noqa: FBT001 - a flag of the command
    **flags: str | None,
) -> None:
    r"""Verify a session's log, all streams, or an exported file; name what is damaged.

    TARGET is a session's key, a stream such as gateway or memory:NAME, or a file. The
    database is only read, and a gateway may run over it. The exit status is 0 where all is
    sound, 1 where damage was found, 2 where nothing can be said.

    \b
    Examples:
      sessiond verify --all
      sessiond verify web:main --from-checkpoint
      sessiond verify --all --checkpoint kept-elsewhere.txt --public-key log.pub
      sessiond verify session.jsonl --public-key log.pub
    """
    if target is None and not everything and note is None:
        raise click.UsageError("Name a session, a stream or a file, or give --all.")
    with _could_not_check(), prepared(flags) as settings:
        if target is not None and Path(target).is_file():
            _finish_file(Path(target), public_keys, as_json=as_json)
        with _opened(settings, public_keys, jobs or os.cpu_count() or 1) as verifier:
            began = time.monotonic()
            outcome = _outcome(verifier, target, note, everything, from_checkpoint)
            _finish(outcome, time.monotonic() - began, as_json=as_json)


class _Unchecked(click.ClickException):
    """Nothing can be said of what was to be verified."""

    exit_code = UNCHECKED


@contextlib.contextmanager
def _could_not_check() -> Iterator[None]:
    """End with exit status 2 where nothing could be said."""
    from concurrent.futures.process import BrokenProcessPool

    from persistence.errors import ProofError

    try:
        yield
    except (click.UsageError, BrokenPipeError):  # the status is the same; nobody reads on
        raise
    except click.ClickException as error:
        raise _Unchecked(error.message) from error
    except (ProofError, BrokenProcessPool, OSError) as error:
        raise _Unchecked(str(error)) from error


@contextlib.contextmanager
def _opened(settings: Settings, public_keys: Sequence[str], jobs: int) -> Iterator["LogVerifier"]:
    """Yield what verifies the settings' log."""
    from actors.audit.signing.notes import parse_verifier_keys
    from actors.audit.verifying.verifier import LogVerifier
    from persistence.engine import parse_url, read_engine
    from persistence.tree import SqlTree

    keys = [key for text in key_texts(public_keys) for key in parse_verifier_keys(text)]
    open_rows = partial(
        _rows, settings.database_url, settings.encryption_key_file, settings.encryption_keys_url
    )
    with reading(settings) as (log, checkpoints):
        tree = SqlTree(read_engine(parse_url(settings.database_url)))
        with LogVerifier(open_rows, log, tree, checkpoints, keys, jobs) as verifier:
            yield verifier


def _rows(database_url: str, key_file: str | None, keys_url: str | None) -> "RawRows":
    """Open the log's rows; worker processes do it too."""
    from persistence.engine import parse_url, read_engine
    from persistence.raw_rows import RawRows
    from persistence.vault import open_vault

    url = parse_url(database_url)
    engine = read_engine(url)
    return RawRows(engine.connect(), open_vault(url, engine, key_file, keys_url))


def _outcome(
    verifier: "LogVerifier",
    target: str | None,
    note: Path | None,
    everything: bool,  # noqa: FBT001 - as the command has it
    from_checkpoint: bool,  # noqa: FBT001 - as the command has it
) -> "Outcome":
    if note is not None:
        verifier.compare(note.read_text(encoding="utf-8"))
    with _progress(verifier, None if everything else target) as progress:
        if everything:
            verifier.verify_all(from_checkpoint=from_checkpoint, progress=progress)
        if target is not None and not verifier.verify(
            target, from_checkpoint=from_checkpoint, progress=progress
        ):
            raise click.ClickException(f"There is no session, stream or file {target!r}.")
    return verifier.outcome


@contextlib.contextmanager
def _progress(verifier: "LogVerifier", target: str | None) -> Iterator[Callable[[int], object]]:
    """Yield what is told how many more events were read, and shows it where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda _events: None
        return
    events = verifier.count_events(target)
    with click.progressbar(length=events, label="Verifying", file=sys.stderr) as bar:
        yield bar.update


def _finish(outcome: "Outcome", took_s: float, *, as_json: bool) -> NoReturn:
    """Print what was found and end."""
    if as_json:
        shown = {"ok": outcome.ok, "seconds": round(took_s, 3), **msgspec.to_builtins(outcome)}
        click.echo(json.dumps(shown))
    else:
        for each in outcome.problems:
            click.echo(in_a_line(f"{each.stream}  seq {each.seq}  {each.problem}"))
        for line in _summary(outcome, took_s):
            click.echo(in_a_line(line))
    sys.exit(SOUND if outcome.ok else DAMAGED)


def _summary(outcome: "Outcome", took_s: float) -> Iterator[str]:
    rate = f"{outcome.events / max(took_s, 1e-9):,.0f} events/s"
    erased = f", {outcome.erased:,} of them erased" if outcome.erased else ""
    read = f"{_counted(outcome.events, 'event')}{erased}, read in {took_s:.1f} s ({rate})"
    damaged = len({each.stream for each in outcome.problems})
    if not outcome.streams:  # it was compared with a checkpoint, and nothing else
        yield "Sound." if outcome.ok else f"Damaged: {_counted(damaged, 'stream')}."
    elif outcome.ok:
        yield f"Sound: {_counted(outcome.streams, 'stream')}, {read}."
    else:
        yield f"Damaged: {damaged} of {_counted(outcome.streams, 'stream')}; {read}."
    if outcome.head is not None:
        yield f"Head: seq {outcome.head.seq}, hash {outcome.head.hash}"
    yield from outcome.notes
    if not outcome.ok:
        yield WHAT_NOW


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _finish_file(file: Path, public_keys: Sequence[str], *, as_json: bool) -> NoReturn:
    """Check an exported file, print what was found and end."""
    from actors.audit.exporting.file_check import checked

    with reading_bar(file, "Verifying") as seen, file.open("rb") as opened:
        told = itertools.count()

        def keep(_event: object, _state: object) -> None:
            if next(told) % SEEN_EVENTS == 0:
                seen(opened.tell())

        report, _state = checked(opened, key_texts(public_keys), keep)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(report)))
    else:
        click.echo("\n".join(map(in_a_line, report.lines)))
    sys.exit(SOUND if report.ok else DAMAGED)
