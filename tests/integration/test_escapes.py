"""What a command may try in order to get out of its workspace, to take too much, or to stay."""

import os
import resource
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.tools._output import OUTPUT_BYTES_MAX
from actors.tools.base import ToolLimits, ToolResult
from tests.unit.tools.sandboxes import (
    CONFINED,
    LIMITS,
    Heartbeat,
    SandboxSettings,
    Shell,
    made,
    marked_processes,
)

TOP_SECRET = "top-secret-" + secrets.token_hex(8)
STALL_S_MAX = 30
"""A process that hangs with its bombs is stalled until they end, twice as long."""


class World:
    """A session's workspace, what lies around it, and what else runs on the machine."""

    def __init__(self, which: str, root: Path) -> None:
        self.secret = root / "data" / "secret"
        self.other = root / "data" / "workspaces" / "other"
        workspace = root / "data" / "workspaces" / "own"
        for folder in (self.other, workspace):
            folder.mkdir(parents=True)
        self.secret.write_text(TOP_SECRET)
        self.secret.chmod(0o600)
        (self.other / "notes").write_text(TOP_SECRET)
        self.mark = f"mark-{secrets.token_hex(8)}"
        self.shell = Shell(made(which), workspace)
        self.before = self.around()
        self.victim = subprocess.Popen(["sleep", "300"], env={"API_KEY": TOP_SECRET})
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{self.mark}")
        self.path = socket.socket(socket.AF_UNIX)
        self.path.bind(str(root / "socket"))
        for listening in (self.abstract, self.path):
            listening.listen()
        self.names = {
            "secret": self.secret,
            "other": self.other,
            "root": root,
            "victim": self.victim.pid,
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "mark": self.mark,
        }

    def try_out(self, attempt: str, timeout_s: float = LIMITS.timeout_s) -> ToolResult:
        """Run it; all its processes carry the mark."""
        for name, value in self.names.items():
            attempt = attempt.replace(f"<{name}>", str(value))
        return self.shell.run(f"export MARK={self.mark}\n{attempt}", timeout=timeout_s)

    def around(self) -> dict[str, tuple[int, str]]:
        """Return all files around the workspace, with their modes and contents."""
        return {
            str(path): (path.stat().st_mode, path.read_text() if path.is_file() else "")
            for path in self.secret.parent.rglob("*")
            if not path.is_relative_to(self.shell.workspace)
        }

    def escaped(self, result: ToolResult) -> str:
        """Name what got out, if anything did."""
        said = repr(result)
        if TOP_SECRET in said or "ESCAPED" in said:
            return said
        if self.around() != self.before:
            return "files outside were changed"
        if self.victim.poll() is not None:
            return "another process was ended"
        self.udp.setblocking(False)
        try:
            return f"a packet got out: {self.udp.recv(100)!r}"
        except BlockingIOError:
            return ""

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for each in (self.tcp, self.udp, self.abstract, self.path):
            each.close()


@pytest.fixture(params=CONFINED)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Check after each attempt that nothing of it is left, and that this process could go on."""
    world = World(request.param, tmp_path)
    with Heartbeat() as heartbeat:
        yield world
    try:
        assert marked_processes(world.mark) == []
        assert world.around() == world.before
        assert world.victim.poll() is None
        assert heartbeat.longest_s < STALL_S_MAX
    finally:
        world.close()


def python(script: str) -> str:
    return f"python3 - <<'END'\n{script}\nprint('ESCAPED')\nEND"


PTRACE = python("""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(16, <victim>, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.waitpid(<victim>, 0x40000000)
libc.ptrace(17, <victim>, 0, 0)
""")

CHROOT = python("""
import os
os.mkdir("inner")
os.chroot("inner")
""")

ATTEMPTS = {
    "an absolute path": "cat <secret>",
    "the way up": "cat ../../secret",
    "another session": "cat <other>/notes; cat ../other/notes",
    "a link": "ln -s <secret> link; cat link",
    "a linked folder": "ln -s <root>/data folder; cat folder/secret",
    "a hard link": "ln <secret> hard && cat hard",
    "a swapped link": (
        "mkdir a; touch a/secret; ln -s <root>/data b; "
        "for n in $(seq 25); do mv a c; mv b a; cat a/secret; mv a b; mv c a; done"
    ),
    "its own root": "cat /proc/self/root<secret>",
    "other processes' folders": "for at in /proc/[0-9]*; do cat $at/root<secret>; done",
    "the victim's folder": "ls /proc/<victim>/cwd/ && echo ESCAPED",
    "its launcher": "cat /proc/$PPID/root<secret> /proc/$PPID/cwd<secret>",
    "a new file outside": "echo x > <root>/data/made",
    "adding to a file": "echo x >> <secret>",
    "cutting a file": python("import os; os.truncate('<secret>', 0)"),
    "moving a file in": "mv <secret> mine; cat mine",
    "moving a folder out": "mkdir gone; mv gone <root>/data/",
    "removing a file": "rm -f <secret>",
    "other processes' environments": "cat /proc/<victim>/environ /proc/[0-9]*/environ",
    "killing a process": "kill -9 <victim>",
    "stopping a process": "kill -STOP <victim> && kill -CONT <victim> && echo ESCAPED",
    "a connection": "echo > /dev/tcp/127.0.0.1/<tcp> && echo ESCAPED",
    "a packet": "echo hello > /dev/udp/127.0.0.1/<udp>",
    "an abstract socket": python(
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0<mark>')"
    ),
    "a socket in the file system": python(
        "import socket; socket.socket(socket.AF_UNIX).connect('<root>/socket')"
    ),
}
AS_ROOT = {
    "another root": CHROOT,
    "another owner": "touch mine; chown 12345 mine && echo ESCAPED",
}
ELSEWHERE = {
    "the first process's root": "cat /proc/1/root<secret>",
    "other processes' memory": python("open('/proc/<victim>/mem', 'rb')"),
    "tracing a process": PTRACE,
    "a device": "mknod device b 254 0 && echo ESCAPED",
    "a kernel setting": (
        "at=/proc/sys/kernel/core_pattern; cat $at > kept; "
        "[ -s kept ] && cat kept > $at && echo ESCAPED"
    ),
    "another name for the machine": python(
        "import socket; name = socket.gethostname(); socket.sethostname(name)"
    ),
    "a mount": "mkdir at; mount -t tmpfs none at && echo ESCAPED",
    "a mount of what is outside": "mkdir at; mount --bind <root>/data at && cat at/secret",
    "a user namespace of its own": (
        "mkdir at; unshare -Urm sh -c 'mount --bind <root>/data at && cat at/secret'"
    ),
    "the programs of the system": "touch /usr/escaped && echo ESCAPED",
    "the machine's disks": "head -c 1 /dev/vda /dev/sda /dev/mem /dev/kmsg && echo ESCAPED",
    "the machine's secrets": "cat /etc/shadow /etc/ssh/*key /root/.* && echo ESCAPED",
    "the environment": "env | grep API_KEY",
}
"""Whether these would succeed depends on the machine and the user, so that nobody tries."""


@pytest.mark.parametrize("name", [*ATTEMPTS, *AS_ROOT, *ELSEWHERE])
def test_nothing_gets_out(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", TOP_SECRET)
    attempt = (ATTEMPTS | AS_ROOT | ELSEWHERE)[name]
    assert world.escaped(world.try_out(attempt)) == ""


@pytest.mark.parametrize("name", [*ATTEMPTS, *AS_ROOT])
def test_it_would_where_nothing_confines_it(name: str, tmp_path: Path) -> None:
    """Else the attempts above would prove nothing."""
    if name in AS_ROOT and os.geteuid() != 0:
        pytest.skip("only root can do this where nothing confines it")
    world = World("none", tmp_path)
    try:
        assert world.escaped(world.try_out((ATTEMPTS | AS_ROOT)[name]))
    finally:
        world.close()


def held_by(descriptor: int) -> str:
    return f'for n in $(seq 3 40) {descriptor}; do eval "cat <&$n"; done; ls -l /proc/self/fd'


def test_a_descriptor_of_the_gateway_is_not_handed_on(world: World) -> None:
    descriptor = os.open(world.secret, os.O_RDONLY)
    try:
        os.set_inheritable(descriptor, True)
        assert world.escaped(world.try_out(held_by(descriptor))) == ""
    finally:
        os.close(descriptor)


def ended(result: ToolResult, how: str) -> bool:
    return how in repr(result.content) and result.is_error


BOMBS = {  # each ends by itself, at a few thousand processes, should nothing stop it
    "waiting": "b() { [ $1 = 0 ] || { b $(($1-1)) & b $(($1-1)) & }; sleep 60; }; b 10",
    "abandoning": "b() { [ $1 = 0 ] || b $(($1-1)) | b $(($1-1)) & }; b 11; sleep 60",
    "in sessions": python("""
import os, time
for _ in range(11):
    try:
        os.fork() or os.setsid()
    except OSError:
        pass
time.sleep(60)
"""),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_fork_bomb_is_stopped(name: str, world: World) -> None:
    result = world.try_out(BOMBS[name], timeout_s=2)
    assert ended(result, "too many processes") or ended(result, "timed out")


def test_orphans_without_end_do_not_keep_a_command_alive(world: World) -> None:
    result = world.try_out(
        "for n in 1 2 3 4; do while :; do (true &); done & done; wait", timeout_s=1
    )
    assert ended(result, "too many processes") or ended(result, "timed out")


def test_one_process_gets_no_more_memory_than_allowed(world: World) -> None:
    result = world.try_out("python3 -c 'print(len(bytearray(10**9)))'")
    assert ended(result, "MemoryError")


def test_many_processes_get_no_more_memory_than_allowed(world: World) -> None:
    hog = "python3 -c 'import time; held = b\"x\" * 180_000_000; time.sleep(60)'"
    began = "; ".join(f"{hog} &" for _ in range(6)).replace("&;", "&")
    assert ended(world.try_out(f"{began} wait"), "too much memory")


def test_processes_that_share_memory_are_counted_once(world: World) -> None:
    script = "import os, time\nheld = b'x' * 150_000_000\nos.fork(), os.fork()\ntime.sleep(0.5)\n"
    assert world.try_out(f"python3 - <<'END'\n{script}END").details["exit_code"] == 0


def test_a_gigabyte_of_output_takes_no_memory_here(world: World) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = world.try_out("head -c 1000000000 /dev/zero | tr '\\0' x")
    assert ended(result, f"more than {OUTPUT_BYTES_MAX} bytes")
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb < 20_000
    file = world.shell.workspace / result.details["output_file"]
    assert file.stat().st_size == world.shell.limits.file_bytes


def test_a_file_grows_no_larger_than_allowed(world: World) -> None:
    assert world.try_out("head -c 100000000 /dev/zero > big").is_error
    size = (world.shell.workspace / "big").stat().st_size
    assert size <= SandboxSettings().sandbox_file_bytes


def test_no_other_folder_takes_files_without_end(world: World) -> None:
    filling = (
        "for at in / /dev /dev/shm /run /var /var/tmp /home /etc /proc /sys; do "
        "for n in $(seq 60); do head -c 2000000 /dev/zero > $at/f$n || break; done; "
        "du -sm $at/f* 2>/dev/null | awk -v at=$at '{ s += $1 } s > 70 { print \"ESCAPED\" at }'; "
        "done"
    )
    assert world.escaped(world.try_out(filling)) == ""


def test_processor_time_is_bounded(world: World) -> None:
    world.shell = Shell(
        made(world.shell.sandbox.name, SandboxSettings(sandbox_cpu_s=1)), world.shell.workspace
    )
    result = world.try_out("while :; do :; done")
    assert result.details["exit_code"] == 137


DAEMONS = {
    "background": "sleep 300 & ",
    "nohup": "nohup sleep 300 > /dev/null 2>&1 &",
    "a session of its own": "setsid sleep 300 > /dev/null 2>&1 < /dev/null &",
    "a double fork": python("""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        time.sleep(300)
    os._exit(0)
os.wait()
"""),
    "deaf to signals": "(trap '' TERM HUP INT; setsid sleep 300) > /dev/null 2>&1 &",
    "without its environment": "env -i setsid sleep 300 <mark> > /dev/null 2>&1 &",
    "stopped": "setsid sleep 300 & kill -STOP $!",
}


@pytest.mark.parametrize("name", DAEMONS)
def test_nothing_stays_behind(name: str, world: World) -> None:
    world.try_out(f"{DAEMONS[name]}\nexit 0")  # the world looks for what is left


@pytest.mark.parametrize("name", DAEMONS)
def test_nothing_stays_behind_where_nothing_confines_it(name: str, tmp_path: Path) -> None:
    world = World("none", tmp_path)
    try:
        world.try_out(f"{DAEMONS[name]}\nexit 0")
        assert marked_processes(world.mark) == []
    finally:
        world.close()


@pytest.mark.parametrize("name", DAEMONS)
def test_nothing_stays_behind_a_timeout(name: str, world: World) -> None:
    command = f"{DAEMONS[name]}\ntrap '' TERM INT HUP; sleep 300; sleep 300"
    result = world.try_out(command, timeout_s=0.5)
    assert ended(result, "timed out")


@pytest.mark.parametrize("place", [".sessiond", ".sessiond/output", ".sessiond/output/call-1.txt"])
def test_the_folder_for_output_may_be_a_trap(place: str, world: World) -> None:
    world.shell.limits = ToolLimits(timeout_s=LIMITS.timeout_s, output_chars=100)
    target = "<secret>" if place.endswith("txt") else "<root>/data"
    trap = f"mkdir -p $(dirname {place}); rm -rf {place}; ln -s {target} {place}; seq 1000"
    result = world.try_out(trap)
    assert world.escaped(result) == ""
    assert (world.shell.workspace / result.details["output_file"]).read_text().endswith("1000\n")
