"""A disk that is full, read-only or broken under SQLite, and a database that is held by others."""

import contextlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gateway import COMMAND, Answer, database_url, until
from tests.faults.checker import Seen, check
from tests.faults.conftest import Started
from tests.faults.world import FaultyGateway, Place, may_be_repeated, path_of, prompt, until_idle

SHIM = Path(__file__).with_name("disk_shim.c")
FAULTS = ("fsync", "full", "read-only")
BROKEN = {"fsync": "disk I/O error", "full": "full", "read-only": "disk I/O error"}
"""What SQLite says of each."""

REFUSED_TIMES = 3
TMPFS_BYTES = 3_000_000
BIG = "x" * 200_000


class FaultyDisk:
    """Decides how the disk of a gateway fails that runs over the shim."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "fault"
        compiler = shutil.which("cc")
        if compiler is None or not sys.platform.startswith("linux"):
            pytest.skip("a disk's errors are made by a library for Linux, which needs cc")
        library = folder / "disk_shim.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True
        )
        self.variables = {"LD_PRELOAD": str(library), "SESSIOND_DISK_FAULT": str(self._file)}

    def fail(self, fault: str) -> None:
        """Fail in this way from now on."""
        whole = self._file.with_suffix(".new")
        whole.write_text(fault)
        whole.replace(self._file)

    def heal(self) -> None:
        """Work again."""
        self._file.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> FaultyDisk:
    return FaultyDisk(tmp_path)


def send(gateway: FaultyGateway, seen: Seen, session: str, key: str, text: str = "hello") -> Answer:
    """Prompt a session once."""
    seen.unacknowledged(session, key)
    body = {"text": text}
    answer = gateway.post(path_of(session, "/enqueue"), body, **{"Idempotency-Key": key})
    if answer.status == 202:
        seen.acknowledged(session, answer.body["promptId"], key)
    return answer


def refuse_all(gateway: FaultyGateway, seen: Seen, key: str, text: str = "hello") -> None:
    """Check that while the disk fails nothing is acknowledged, and what is there can be read."""
    before = gateway.get(path_of("read", "/history")).body
    for session in ("read", "new"):
        for _ in range(REFUSED_TIMES):
            answer = send(gateway, seen, session, key, text)
            assert may_be_repeated(answer), answer
    assert gateway.get(path_of("read", "/history")).body == before
    with gateway.stream(path_of("read", "/events?after=0")) as stream:
        assert next(stream.frames()).data["type"] == "hello"
    assert gateway.get("/sessions").status == 200
    assert gateway.get("/health").status == 200


def take_again(gateway: FaultyGateway, seen: Seen, key: str, text: str = "hello") -> None:
    """Check that everything works again, in the same process, and is there after a kill."""
    worker = gateway.worker
    for session in ("read", "new"):
        assert prompt(gateway, seen, session, text, key).status == 202
    until_idle(gateway, ["read", "new"])
    assert gateway.worker == worker
    gateway.check(seen)


def test_a_disk_that_fails_acknowledges_nothing_until_the_log_is_reopened(
    sqlite_place: Place, started: Started, disk: FaultyDisk
) -> None:
    gateway = started.later(sqlite_place.gateway())
    gateway.start_with(**disk.variables)
    seen = Seen()
    assert send(gateway, seen, "read", "first").status == 202
    until_idle(gateway, ["read"])
    for fault in FAULTS:
        disk.fail(fault)
        refuse_all(gateway, seen, fault)
        assert BROKEN[fault] in gateway.log
        disk.heal()
        take_again(gateway, seen, fault)
    gateway.restart()
    gateway.check(seen)


def test_a_database_that_somebody_else_holds_is_503_and_nothing_of_it_is_written(
    sqlite_place: Place, started: Started
) -> None:
    gateway = started(sqlite_place.gateway())
    seen = Seen()
    assert send(gateway, seen, "read", "first").status == 202
    until_idle(gateway, ["read"])
    with held(sqlite_place.folder / "sessiond.db"):
        answer = send(gateway, seen, "read", "held")
        assert may_be_repeated(answer), answer
        assert gateway.get(path_of("read")).status == 200
        check(gateway.database, seen)
    take_again(gateway, seen, "held")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Have another process hold the database for writing."""
    hold = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print(flush=True); sys.stdin.read(); c.rollback()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield


class OnSmallDisk(FaultyGateway):
    """The gateway with its data on a file system of its own, which is small."""

    def on_disk(self, path: Path) -> Path:
        """Return where a path of that file system is seen from here."""
        return Path(f"/proc/{self.worker}/root") / path.relative_to("/")

    @classmethod
    def on(cls, mount: Path, folder: Path, **settings: object) -> "OnSmallDisk":
        """Return one whose file system is seen at ``mount`` by itself alone."""
        gateway = cls(folder, None, **settings)
        script = f'mount -t tmpfs -o size={TMPFS_BYTES} small "$0" && exec "$@"'
        gateway.command = ("unshare", "-Urm", "sh", "-c", script, mount, COMMAND, "serve")
        return gateway


def require_namespaces() -> None:
    probe = ["unshare", "-Urm", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False).returncode:
        pytest.skip("a small file system needs unshare and user namespaces")


@pytest.mark.faults
def test_a_full_file_system_stops_prompts_but_no_reads_until_there_is_room_again(
    tmp_path: Path, started: Started, worker_class: str
) -> None:
    require_namespaces()
    mount = tmp_path / "small"
    mount.mkdir()
    url = f"sqlite:///{mount / 'sessiond.db'}"
    gateway = OnSmallDisk.on(mount, tmp_path, database_url=url, worker_class=worker_class)
    started(gateway)
    seen = Seen()
    assert send(gateway, seen, "read", "first").status == 202
    until_idle(gateway, ["read"])
    waste = gateway.on_disk(mount) / "waste"
    fill(waste)
    until(lambda: is_full(gateway, seen), "the file system is full")
    refuse_all(gateway, seen, "full", BIG)
    waste.unlink()
    for session in ("read", "new"):
        assert prompt(gateway, seen, session, BIG, "full").status == 202
    until_idle(gateway, ["read", "new"])
    copy = tmp_path / "copy"  # the file system ends with the gateway
    copy.mkdir()
    for name in ("sessiond.db", "sessiond.db-wal"):
        shutil.copy(gateway.on_disk(mount) / name, copy)
    check(database_url(copy), seen, gateways=[gateway.url])


def fill(waste: Path) -> None:
    """Leave no room at all."""
    with waste.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def is_full(gateway: FaultyGateway, seen: Seen) -> bool:
    return send(gateway, seen, "read", "full", BIG).status == 503


@pytest.mark.faults
def test_a_limit_on_the_size_of_files_is_an_error_like_another(
    sqlite_place: Place, started: Started
) -> None:
    """What is written beyond it is refused by the system, with EFBIG."""
    gateway = started(sqlite_place.gateway())
    seen = Seen()
    assert send(gateway, seen, "read", "first").status == 202
    until_idle(gateway, ["read"])
    files = [sqlite_place.folder / f"sessiond.db{end}" for end in ("", "-wal")]
    limit = max(path.stat().st_size for path in files)
    _soft, hard = resource.prlimit(gateway.worker, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.worker, resource.RLIMIT_FSIZE, (limit, hard))
    refuse_all(gateway, seen, "large", BIG)
    resource.prlimit(gateway.worker, resource.RLIMIT_FSIZE, (hard, hard))
    take_again(gateway, seen, "large", BIG)


@pytest.mark.faults
def test_a_read_only_database_is_refused_at_the_start_with_the_reason(
    sqlite_place: Place, started: Started, disk: FaultyDisk
) -> None:
    gateway = started(sqlite_place.gateway())
    gateway.terminate()
    disk.fail("read-only")
    with pytest.raises(AssertionError, match="does not start"):
        gateway.start_with(**disk.variables)
    assert "sessiond: The database can't be used now: " in gateway.log
    disk.heal()
    gateway.start()
