import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from actors.session.messages import text_of
from actors.tools._output import OUTPUT_BYTES_MAX, Output
from actors.tools.base import ToolCancelled, ToolError, ToolLimits
from actors.tools.bash import BashTool
from tests.unit.tools.sandboxes import EVERY, LIMITS, SandboxSettings, Shell, eventually, made

REPOSITORY = Path(__file__).parents[3]
BUNDLED = "bundled bubblewrap"
"""Another build of the program that ``bubblewrap`` names; it differs in nothing that is told."""


@pytest.fixture(
    params=[
        pytest.param(each, marks=pytest.mark.exhaustive) if each == BUNDLED else each
        for each in EVERY
    ]
)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(made(request.param), tmp_path)


@pytest.fixture(params=EVERY)
def any_shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(made(request.param), tmp_path)


@pytest.fixture
def unconfined(tmp_path: Path) -> Shell:
    return Shell(made("none"), tmp_path)


def test_a_command_works_in_the_workspace_and_its_output_comes_back(any_shell: Shell) -> None:
    result = any_shell.run("echo made > file; ls; echo wrong >&2; echo last")
    assert text_of(result.content) == "file\nwrong\nlast"
    assert not result.is_error
    assert (any_shell.workspace / "file").read_text() == "made\n"


def test_the_details_tell_programs_what_happened(shell: Shell) -> None:
    details = shell.run("printf 'a\\nb'; exit 3").details
    assert details.pop("duration_ms") >= 0
    assert details == {
        "exit_code": 3,
        "output_bytes": 3,
        "output_sha256": hashlib.sha256(b"a\nb").hexdigest(),
        "truncated": False,
        "sandbox": shell.sandbox.name,
    }


@pytest.mark.parametrize(
    ("command", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("not-a-command", 127)]
)
def test_a_failed_command_is_an_error_with_its_code(shell: Shell, command: str, code: int) -> None:
    result = shell.run(command)
    assert result.is_error
    assert result.details["exit_code"] == code
    assert text_of(result.content).endswith(f"\n\nCommand exited with code {code}")


def test_a_command_without_output_says_so(shell: Shell) -> None:
    assert shell.text("true") == "(no output)"


def test_there_is_no_input_to_wait_for(shell: Shell) -> None:
    assert shell.text("cat; read line || echo end") == "end"


def test_the_environment_is_the_sandboxs_own(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "sk-secret")
    names = {line.partition("=")[0] for line in shell.text("env").splitlines()}
    assert names == {"HOME", "LANG", "PATH", "PWD", "SHLVL", "TERM", "TMPDIR", "_"}


def test_python_and_temporary_files_can_be_used(shell: Shell) -> None:
    script = "import tempfile, ssl; print(tempfile.TemporaryFile().write(b'four'))"
    assert shell.text(f'python3 -c "{script}"') == "4"


def test_limits_are_set(shell: Shell) -> None:
    settings = SandboxSettings()
    said = shell.text("ulimit -c; ulimit -n; ulimit -t; ulimit -f; ulimit -v").split()
    assert [int(each) for each in said] == [
        0,
        1024,
        settings.sandbox_cpu_s,
        settings.sandbox_file_bytes // 1024,
        settings.sandbox_memory_bytes // 1024,
    ]


def test_a_broken_pipe_ends_a_program_quietly(shell: Shell) -> None:
    assert shell.text("yes | head -n 1; echo ${PIPESTATUS[0]}") == "y\n141"


def test_a_pipe_that_stays_open_does_not_keep_a_command_alive(shell: Shell) -> None:
    assert shell.text(f"sleep {2 * LIMITS.timeout_s} & echo done") == "done"


def test_output_is_reported_while_the_command_runs(shell: Shell) -> None:
    seen = threading.Event()

    class Watch(list[str]):
        def append(self, text: str) -> None:
            super().append(text)
            (shell.workspace / "go").touch()
            seen.set()

    shell.reported = Watch()
    text = shell.text("echo first; until [ -e go ]; do sleep 0.01; done; echo last")
    assert text == "first\nlast"
    assert shell.reported[0] == "first\n"
    assert "".join(shell.reported) == "first\nlast\n"


def test_reports_are_gathered(unconfined: Shell) -> None:
    unconfined.run("for n in $(seq 60); do echo $n; sleep 0.005; done")
    assert "".join(unconfined.reported).split() == [str(n) for n in range(1, 61)]
    assert len(unconfined.reported) < 20


def test_a_command_that_takes_too_long_is_ended_with_what_it_printed(shell: Shell) -> None:
    result = shell.run("echo before; trap '' TERM INT HUP; sleep 300; sleep 300", timeout=1)
    assert text_of(result.content) == "before\n\nCommand timed out after 1 s"
    assert result.is_error
    assert result.details["exit_code"] is None
    assert result.details["duration_ms"] < 300_000


def test_a_command_gets_no_longer_than_allowed(shell: Shell) -> None:
    shell.limits = ToolLimits(timeout_s=0.3)
    assert shell.text("sleep 19", timeout=60).endswith("Command timed out after 0.3 s")


def test_a_cancelled_command_ends(shell: Shell) -> None:
    def cancel() -> None:
        eventually(lambda: bool(shell.reported))
        shell.cancellation.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(ToolCancelled):
        shell.run("trap '' TERM INT HUP; echo started; sleep 300; sleep 300")
    thread.join()


def test_a_command_cancelled_before_it_began_does_not_begin(unconfined: Shell) -> None:
    unconfined.cancellation.cancel()
    with pytest.raises(ToolCancelled):
        unconfined.run("touch made")
    assert not (unconfined.workspace / "made").exists()


def test_cancelling_after_the_end_does_nothing(unconfined: Shell) -> None:
    unconfined.run("true")
    unconfined.cancellation.cancel()


def test_long_output_is_cut_and_kept_in_a_file(shell: Shell) -> None:
    shell.limits = ToolLimits(timeout_s=LIMITS.timeout_s, output_chars=100)
    result = shell.run("seq 1000")
    whole = "".join(f"{n}\n" for n in range(1, 1001))
    name = result.details["output_file"]
    assert text_of(result.content) == (
        f"[This is the end of {len(whole)} bytes of output. All of it is in {name}.]"
        f"\n\n{whole[-100:-1]}"
    )
    assert (shell.workspace / name).read_text() == whole
    assert result.details["truncated"]
    assert shell.text(f"tail -n 1 {name}") == "1000"


def test_the_file_is_bounded_and_the_digest_is_of_everything(unconfined: Shell) -> None:
    unconfined.limits = ToolLimits(timeout_s=LIMITS.timeout_s, output_chars=100, file_bytes=1000)
    result = unconfined.run("head -c 300000 /dev/zero | tr '\\0' x")
    details = result.details
    assert (unconfined.workspace / details["output_file"]).stat().st_size == 1000
    assert details["output_bytes"] == 300_000
    assert details["output_sha256"] == hashlib.sha256(b"x" * 300_000).hexdigest()
    assert "The first 1000 bytes are in" in text_of(result.content)


def test_a_flood_of_output_ends_the_command(shell: Shell) -> None:
    result = shell.run("cat /dev/zero")
    assert result.is_error
    assert text_of(result.content).endswith(f"it printed more than {OUTPUT_BYTES_MAX} bytes")
    assert OUTPUT_BYTES_MAX < result.details["output_bytes"] < OUTPUT_BYTES_MAX * 1.01


def test_what_watchers_get_of_a_flood_is_bounded(unconfined: Shell) -> None:
    unconfined.run("head -c 20000000 /dev/zero")
    assert max(map(len, unconfined.reported)) <= 32_768


def test_a_character_split_between_two_reads_is_one(tmp_path: Path) -> None:
    said: list[str] = []
    output = Output(tmp_path, "c", ToolLimits(), said.append)
    for byte in "añ€😀".encode() + b"\xff\xf0":
        output.add(bytes([byte]))
        output.tick()
    assert output.finish().text == "añ€😀\ufffd\ufffd" == "".join(said)


@pytest.mark.parametrize("name", ["../../escaped", "a/b", "", "..", "x" * 500, "\0"])
def test_any_call_id_makes_a_file_name(tmp_path: Path, name: str) -> None:
    output = Output(tmp_path, name, ToolLimits(output_chars=1), lambda _: None)
    output.add(b"long")
    file = tmp_path / output.finish().file
    assert file.read_bytes() == b"long"
    assert file.parent == tmp_path / ".sessiond/output"


@pytest.mark.parametrize(
    "command", ["echo \0", "echo \ud800", "echo " + "x" * 200_000], ids=["nul", "half", "long"]
)
def test_a_command_that_no_shell_could_get_is_refused(unconfined: Shell, command: str) -> None:
    with pytest.raises(ToolError):
        unconfined.run(command)


def test_the_longest_command_runs(shell: Shell) -> None:
    assert shell.text("true " + "x" * 99_000 + "; echo ran") == "ran"


def test_a_workspace_that_is_gone_is_an_error_that_names_no_details(shell: Shell) -> None:
    shell.workspace = shell.workspace / "gone"
    with pytest.raises(ToolError, match=r"^The command could not be run: its sandbox failed\.$"):
        shell.run("true")


def test_commands_leave_no_descriptors_and_no_zombies(shell: Shell) -> None:
    def held() -> tuple[int, int]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return len(list(Path("/dev/fd").iterdir())), len(children)

    shell.run("true")
    before = held()
    shell.run("seq 100000")
    shell.run("sleep 19", timeout=0.1)
    assert held() == before


def test_commands_run_beside_each_other(shell: Shell) -> None:
    texts: list[str] = []

    def run(number: int) -> None:
        own = Shell(shell.sandbox, shell.workspace)
        texts.append(own.text(f"touch {number}; until [ $(ls | wc -l) = 6 ]; do :; done; echo ok"))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["ok"] * 6


def test_the_arguments_are_described(unconfined: Shell) -> None:
    tool = BashTool(unconfined.sandbox)
    assert tool.effect == "execute"
    Draft202012Validator.check_schema(tool.spec.parameters)
    schema = Draft202012Validator(tool.spec.parameters)
    schema.validate({"command": "ls", "timeout": 1.5})
    for wrong in ({}, {"command": ""}, {"command": "ls", "timeout": 0}, {"command": "ls", "x": 1}):
        with pytest.raises(ValidationError):
            schema.validate(wrong)


GREENLETS = """
from persistence.native import patch
patch()
import sys, time
import gevent
from pathlib import Path
from actors.tools.base import ToolCancelled
from tests.unit.tools.sandboxes import Shell, made

shell = Shell(made(sys.argv[1]), Path(sys.argv[2]))
ticks = 0

def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1

ticking = gevent.spawn(tick)
running = gevent.spawn(shell.text, "for n in 1 2 3 4; do echo $n; sleep 0.2; done; seq 300000")
running.join()
assert shell.reported[0] == "1\\n", shell.reported[:3]
assert "".join(shell.reported[:4]).startswith("1\\n2\\n"), shell.reported[:4]
assert running.value.endswith("300000"), running.value[-100:]
assert ticks > 20, ticks

shell = Shell(shell.sandbox, shell.workspace)
running = gevent.spawn(shell.text, "trap '' TERM; echo started; sleep 300; sleep 300")
while not shell.reported:
    gevent.sleep(0.005)
shell.cancellation.cancel()
running.join()
assert isinstance(running.exception, ToolCancelled), running.exception
print("all went on")
"""


@pytest.mark.parametrize(
    "which",
    [
        each if each in {"bubblewrap", "none"} else pytest.param(each, marks=pytest.mark.exhaustive)
        for each in EVERY  # Landlock's commands are launched like those that nothing confines
    ],
)
def test_other_greenlets_go_on_while_a_command_runs(which: str, tmp_path: Path) -> None:
    made(which)
    ran = subprocess.run(
        [sys.executable, "-c", GREENLETS, which, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout, ran.returncode) == ("all went on\n", 0), ran.stderr
