"""What ``sessiond doctor`` checks of the log and what it needs: the database, keys, the clock."""

import fcntl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from persistence.errors import PersistenceError, SchemaMismatchError, SchemaOutdatedError
from web.cli.doctor.findings import Finding, Findings, fail, ok, warn
from web.cli.doctor.machine import database_file, how_to_own, may_change
from web.settings import Settings, is_loopback

if TYPE_CHECKING:
    from actors.gateway_state import Token
    from persistence.diagnosis import Diagnosis

GRANT = "Have the owner of the tables run: sessiond grants ROLE | psql DATABASE"
CLOCK_US_MAX = 2_000_000
EARLIEST_S = 1_700_000_000
"""November 2023: a clock that is before that was never set."""


def check_log(settings: Settings) -> Findings:
    """Look into the database, and at all that depends on it."""
    file = database_file(settings)
    if file is not None and settings.workers > 1:
        said = f"SQLite carries one worker process, and workers is {settings.workers}."
        yield fail("database", said, "Set workers to 1, or database_url to PostgreSQL.")
    if file is not None and not file.exists():
        yield ok("database", f"there is no {file} yet; sessiond serve makes it")
        yield from check_keys(settings)
        yield from check_clock(None)
        yield _guarded(settings, ())
        return
    try:
        diagnosis = _diagnosis(settings)
    except SchemaOutdatedError as error:
        yield _outdated(error, sqlite=file is not None)
    except SchemaMismatchError as error:
        yield fail("schema", str(error), "Start the program that migrated it.")
    except PersistenceError as error:
        yield fail("database", str(error), _remedy(error, file))
    else:
        yield ok("database", f"{diagnosis.server} answers, and its schema is current")
        yield from _granted(diagnosis.not_granted)
        yield _served(file, diagnosis.workers)
        yield from _opened(settings)
        yield from check_clock(diagnosis)
    yield from check_keys(settings)


def _diagnosis(settings: Settings) -> "Diagnosis":
    from persistence.diagnosis import diagnose
    from persistence.engine import parse_url, read_engine
    from persistence.migration import require_schema

    engine = read_engine(parse_url(settings.database_url))
    try:
        require_schema(engine)
        return diagnose(engine)
    finally:
        engine.dispose()


def _remedy(error: PersistenceError, file: Path | None) -> str:
    """Return what to do about a database that can't be read."""
    if file is not None and not file.is_file():
        return "Name a file by database_url; one that is not there yet is made."
    if file is not None and not may_change(file):
        return f"{how_to_own(file)}; its folder, {file.parent}, must let who serves write too."
    if file is not None:
        return "Keep a copy of it as it is, and restore it from a backup."
    if "permission denied" in str(error):
        return GRANT
    return "Start its server and check database_url: its host, name, user and password."


def _granted(missing: Sequence[str]) -> Findings:
    if missing:
        yield fail(
            "grants", f"The role may not do what a gateway does: {', '.join(missing)}.", GRANT
        )


def _outdated(error: PersistenceError, *, sqlite: bool) -> Finding:
    said = str(error).partition(" Run: ")[0]
    if sqlite:
        return warn("schema", said, "sessiond serve migrates it; make a backup before.")
    return fail("schema", said, "Run: sessiond migrate, then sessiond grants for its role.")


def _served(file: Path | None, workers: Sequence[str]) -> Finding:
    """Say which processes serve the database now."""
    if file is None:
        names = f": {', '.join(workers)}" if workers else ""
        return ok("served by", f"{len(workers)} worker processes{names}")
    holder = _holder(Path(f"{file}.lock"))
    return ok("served by", "no process" if holder is None else f"process {holder}")


def _holder(lock: Path) -> str | None:
    """Return the process that holds a database's lock, None where nobody does."""
    try:
        with lock.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return (lock.read_text().split() or ["unknown"])[0]
    except OSError:
        return None
    return None


def _opened(settings: Settings) -> Findings:
    """Open the log as a gateway does, and read who may ask it."""
    from actors.gateway_actor import read_state
    from actors.gateway_state import STREAM
    from web.cli.export import reading

    try:
        with reading(settings) as (log, _checkpoints):
            head = log.head(STREAM)
            known = read_state(log, head).tokens if head is not None and head.version else {}
    except PersistenceError as error:
        todo = "Restore the key or the database from a backup; sessiond verify --all says more."
        yield fail("log", str(error), todo)
        return
    sealed = "encrypted" if settings.encryption_key_file else "not encrypted"
    yield ok("log", f"the stream gateway is whole, and the log is {sealed}")
    yield _guarded(settings, tuple(known.values()))


def _guarded(settings: Settings, tokens: "Sequence[Token]") -> Finding:
    """Say whether somebody without a token is kept out."""
    good = sum(each.revoked_at is None for each in tokens)
    if settings.token is None and not good and not is_loopback(settings.bind):
        said = f"Without a token a gateway serves loopback only, not {settings.bind}."
        todo = "Set SESSIOND_TOKEN, issue one by sessiond token issue, or bind to 127.0.0.1."
        return fail("access", said, todo)
    return ok("access", f"{good} named tokens can be used")


def check_clock(diagnosis: "Diagnosis | None") -> Findings:
    """Compare this machine's clock with the database's, and with the newest event."""
    now_us = time.time_ns() // 1_000
    todo = "Have this machine's clock set by NTP (timedatectl set-ntp true)."
    apart = "the clock is plausible"
    if now_us < EARLIEST_S * 1_000_000:
        yield fail("clock", "The clock was never set.", todo)
        return
    if diagnosis is not None and diagnosis.clock_off_us is not None:
        off_us = abs(diagnosis.clock_off_us)
        apart = f"the clock is {off_us / 1_000_000:.1f} s from the database's"
        if off_us > CLOCK_US_MAX:
            yield warn("clock", f"T{apart[1:]}.", todo)
            return
    newest_us = None if diagnosis is None else diagnosis.newest_us
    if newest_us is not None and newest_us - now_us > CLOCK_US_MAX:
        ahead_s = (newest_us - now_us) / 1_000_000
        yield warn("clock", f"The newest event is from {ahead_s:,.0f} s in the future.", todo)
        return
    yield ok("clock", apart)


def check_keys(settings: Settings) -> Findings:
    """Read the keys that sign and encrypt."""
    yield _signing(settings)
    if settings.encryption_key_file is not None:
        yield _master(settings.encryption_key_file, remembers=settings.memory_enabled)


def _signing(settings: Settings) -> Finding:
    from actors.audit.signing.keys import KeyFileError, read_keys
    from web.signing import key_path

    path = key_path(settings)
    if path is None:
        todo = "Run: sessiond keys generate --signing-key-file FILE, and set signing_key_file."
        return warn("signing", "No key signs checkpoints.", todo)
    if settings.signing_key_file is None and not path.exists():
        return ok("signing", f"there is no {path} yet; sessiond serve makes it")
    try:
        count = len(read_keys(path))
    except KeyFileError as error:
        aside = f"move it away (mv {path} {path}.old) and run: " if path.exists() else "run: "
        make = f"sessiond keys generate --signing-key-file {path}"
        todo = f"Restore it from a backup, or {aside}{make}"
        return fail("signing", str(error), todo)
    rotating = "" if count == 1 else "; a rotation is under way: sessiond keys retire ends it"
    return ok("signing", f"the key is in {path}{rotating}")


def _master(file: str, *, remembers: bool) -> Finding:
    from persistence.vault import VaultError, read_master_key

    try:
        read_master_key(file)
    except VaultError as error:
        todo = "Restore it from a backup; for a new log: sessiond encryption generate FILE."
        return fail("encryption", str(error), todo)
    said = f"the master key is in {file}: keep a copy apart from the database"
    if remembers:
        todo = "Set memory_enabled = false where backups must lose what is erased."
        clear = "prompts and answers that memory keeps as episodes are not encrypted"
        return warn("encryption", f"{said}; {clear}", todo)
    return ok("encryption", said)
