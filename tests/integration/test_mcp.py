import asyncio
import gc
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import Struct

from actors.session.messages import Image, Text, text_of
from actors.tools._mcp_stdio import process_streams
from actors.tools.base import (
    Cancellation,
    Effect,
    Tool,
    ToolCancelled,
    ToolContext,
    ToolError,
    ToolLimits,
    ToolResult,
)
from actors.tools.mcp import McpLimits, McpServers
from actors.tools.registry import ToolRegistry
from actors.tools.schema import ToolConfigError
from tests.integration import mcp_server
from tests.unit.actors.world import eventually

ROOT = Path(__file__).parents[2]
SERVER = [sys.executable, str(Path(mcp_server.__file__))]
QUICK = McpLimits(backoff_first_s=0.02, backoff_max_s=0.05, look_every_s=0.2)
TURNS_MIN = 20
"""Of 5 ms each, in what takes a second; who waits for a server on its own thread leaves none."""


class Configured(Struct, frozen=True):
    """Implements actors.tools.mcp.McpServerSettings."""

    name: str
    command: list[str] | None = None
    environment: dict[str, str] = {}
    url: str | None = None
    headers: dict[str, str] = {}
    effect: Effect = "execute"
    tool_timeout_s: float = 20


def stdio(kind: str = "stdio", name: str = "test", **more: Any) -> Configured:
    return Configured(name, [*SERVER, kind], **more)


@contextmanager
def running(*configured: Configured, limits: McpLimits = QUICK) -> Iterator[McpServers]:
    servers = McpServers(configured, limits)
    try:
        servers.start()
        eventually(lambda: all(each.state == "ready" for each in servers.status()))
        yield servers
    finally:
        servers.close()


def tool_of(servers: McpServers, name: str) -> Tool:
    return next(each for each in servers.tools() if each.spec.name == name)


def call(
    servers: McpServers,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    cancellation: Cancellation | None = None,
    report: Callable[[str], None] = lambda _: None,
    limits: ToolLimits | None = None,
    trace: tuple[str, str] = ("", ""),
) -> ToolResult:
    context = ToolContext(
        Path(),
        "key",
        "prompt",
        "call",
        cancellation or Cancellation(),
        report,
        limits or ToolLimits(),
        *trace,
    )
    return tool_of(servers, name).run(arguments or {}, context)


def names(servers: McpServers) -> set[str]:
    return {each.spec.name for each in servers.tools()}


def check_cancelling(servers: McpServers, name: str, mark: Path) -> None:
    """Cancel a call that waits; it has to end at once, and at the server too."""
    cancellation = Cancellation()

    def cancel() -> None:
        eventually(mark.exists)
        cancellation.cancel()

    threading.Thread(target=cancel).start()
    with pytest.raises(ToolCancelled):
        call(servers, name, {"mark": str(mark)}, cancellation=cancellation)
    eventually(lambda: mark.read_text() == "cancelled")


def is_gone(group: int) -> bool:
    """Tell whether nothing of a group runs; what nobody has waited for yet does not."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return not [stat for pgid, stat in rows if int(pgid) == group and not stat.startswith("Z")]


@pytest.fixture(scope="module")
def modern() -> Iterator[McpServers]:
    with running(stdio(environment={"KEY": "value"}, effect="write")) as servers:
        yield servers


def test_a_servers_tools_are_offered_by_its_name(modern: McpServers) -> None:
    registry = ToolRegistry([], mcp=modern, level="write")
    added = registry.find("test__add")
    assert added is not None
    assert added.spec.description == "Add two numbers."
    assert set(added.spec.parameters["properties"]) == {"a", "b"}
    assert added.effect == "write"
    assert registry.find("add") is None
    assert ToolRegistry([], mcp=modern, level="read").specs() == []


def test_a_call_is_answered_and_its_progress_reported(modern: McpServers) -> None:
    reports: list[str] = []
    result = call(modern, "test__add", {"a": 1, "b": 2}, report=reports.append)
    assert result == ToolResult((Text("3"),), {"result": 3})
    assert reports == ["half of it\n"]


@pytest.mark.parametrize(
    "sent", [("", ""), (PARENT := f"00-{'a' * 32}-{'b' * 16}-01", ""), (PARENT, "a=1,b=2")]
)
def test_a_calls_trace_goes_on_at_the_server(modern: McpServers, sent: tuple[str, str]) -> None:
    had = " ".join(each or "None" for each in sent)
    assert call(modern, "test__trace", trace=sent).content == (Text(had),)


def test_reports_come_on_the_thread_that_made_the_call(modern: McpServers) -> None:
    threads: list[int] = []
    call(
        modern,
        "test__add",
        {"a": 1, "b": 2},
        report=lambda _: threads.append(threading.get_ident()),
    )
    assert threads == [threading.get_ident()]


def test_pictures_and_resources_are_told_too(modern: McpServers) -> None:
    assert call(modern, "test__content").content == (
        Text("words"),
        Image("image/png", mcp_server.PIXEL),
        Text("a resource"),
    )


def test_a_picture_that_is_too_large_is_left_out(modern: McpServers) -> None:
    result = call(modern, "test__content", limits=ToolLimits(file_bytes=3))
    assert result.content[1] == Text("[image of type image/png, left out]")


def test_an_answer_that_is_too_long_is_cut(modern: McpServers) -> None:
    result = call(modern, "test__long", limits=ToolLimits(output_chars=100))
    text = text_of(result.content)
    assert text.startswith("x" * 100 + "\n[the rest of the answer is left out")
    assert len(text) < 200
    assert result.details is None


def test_a_tool_that_fails_says_so_to_the_model(modern: McpServers) -> None:
    result = call(modern, "test__fail")
    assert result.is_error
    assert "fail" in text_of(result.content)


def test_arguments_that_the_server_refuses_are_told(modern: McpServers) -> None:
    assert call(modern, "test__add", {"a": "one"}).is_error


def test_a_server_gets_the_environment_that_is_configured_and_no_more(
    modern: McpServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "HOME" in os.environ
    environment = json.loads(text_of(call(modern, "test__environment").content))
    environment.pop("LC_CTYPE", None)  # Python itself sets it where there is no locale
    assert environment == {"PATH": os.environ["PATH"], "KEY": "value"}


def test_many_calls_run_at_once(modern: McpServers) -> None:
    results: list[ToolResult] = []
    threads = [
        threading.Thread(
            target=lambda number=number: results.append(
                call(modern, "test__add", {"a": number, "b": 0})
            )
        )
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.details["result"] for each in results) == list(range(20))


def test_a_cancelled_call_ends_at_once_and_at_the_server_too(
    modern: McpServers, tmp_path: Path
) -> None:
    check_cancelling(modern, "test__wait", tmp_path / "mark")
    assert call(modern, "test__add", {"a": 1, "b": 1}).details == {"result": 2}


def test_a_call_that_was_cancelled_before_it_began_is_not_made(
    modern: McpServers, tmp_path: Path
) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(ToolCancelled):
        call(modern, "test__wait", {"mark": str(tmp_path / "mark")}, cancellation=cancellation)
    call(modern, "test__add", {"a": 1, "b": 1})
    assert not (tmp_path / "mark").exists()


def test_a_call_that_takes_too_long_is_given_up_and_cancelled(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with running(stdio("old", tool_timeout_s=0.5)) as servers:
        result = call(servers, "test__wait", {"mark": str(mark)})
        assert result.is_error
        assert "did not answer within 0.5 seconds" in text_of(result.content)
        eventually(lambda: mark.read_text() == "cancelled")


@pytest.fixture(params=["stdio", "old"])
def either(request: pytest.FixtureRequest) -> Iterator[McpServers]:
    if request.param == "stdio":
        yield request.getfixturevalue("modern")
        return
    with running(stdio("old")) as servers:
        yield servers


def test_tools_that_a_server_gets_later_are_offered(either: McpServers) -> None:
    registry = ToolRegistry([], mcp=either, level="all")
    assert registry.find("test__grown") is None
    call(either, "test__grow")
    eventually(lambda: registry.find("test__grown") is not None)
    assert not call(either, "test__grown").is_error


def test_a_server_that_is_killed_is_started_again(either: McpServers) -> None:
    before = either.status()[0].restarts
    first = int(text_of(call(either, "test__pid").content))
    os.kill(first, signal.SIGKILL)
    eventually(lambda: either.status()[0].restarts == before + 1)
    assert "test__pid" in names(either)
    second = int(text_of(call(either, "test__pid").content))  # which waits for it
    assert second != first
    status = either.status()[0]
    assert (status.state, status.restarts, status.error) == ("ready", before + 1, "")


def test_a_server_that_dies_during_a_call_is_an_error_that_the_model_reads(
    modern: McpServers,
) -> None:
    result = call(modern, "test__die")
    assert result.is_error
    assert "ended during the call" in text_of(result.content)
    assert not call(modern, "test__pid").is_error


def test_a_server_that_ends_again_and_again_is_down_until_the_window_has_passed() -> None:
    limits = McpLimits(restarts_max=2, restart_window_s=3, backoff_first_s=0.01, backoff_max_s=0.01)
    with running(stdio("old"), limits=limits) as servers:
        for restarts in range(3):
            process_id = int(text_of(call(servers, "test__pid").content))
            tool = tool_of(servers, "test__pid")
            assert servers.status()[0].restarts == restarts
            os.kill(process_id, signal.SIGKILL)
            eventually(lambda: servers.status()[0].state != "ready")
        eventually(lambda: servers.status()[0].state == "down")
        assert servers.tools() == ()
        assert servers.status()[0].restarts == 2
        context = ToolContext(Path(), "k", "p", "c", Cancellation(), lambda _: None)
        result = tool.run({}, context)
        assert result.is_error
        assert "test is down" in text_of(result.content)
        eventually(lambda: servers.status()[0].state == "ready")


def test_a_program_that_is_not_there_is_named() -> None:
    servers = McpServers([Configured("none", ["no-such-program"])], QUICK)
    servers.start()
    eventually(lambda: servers.status()[0].state == "down")
    assert servers.status()[0].error == "FileNotFoundError: there is no program no-such-program"
    servers.close()


def test_a_program_that_speaks_something_else_is_given_up() -> None:
    limits = McpLimits(connect_timeout_s=0.3, restarts_max=1, backoff_first_s=0.01)
    servers = McpServers([Configured("cat", ["sh", "-c", "cat > /dev/null"])], limits)
    servers.start()
    eventually(lambda: servers.status()[0].state == "down")
    assert servers.status()[0].error == "TimeoutError"
    servers.close()


def test_closing_ends_every_process_and_what_it_has_started(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 1000 & echo $$ > {tmp_path / 'pid'}; wait; wait; sleep 1000"
    servers = McpServers([Configured("stubborn", ["bash", "-c", script]), stdio("old")], QUICK)
    servers.start()
    eventually(lambda: servers.status()[1].state == "ready")
    eventually(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    stubborn = int((tmp_path / "pid").read_text())
    old = int(text_of(call(servers, "test__pid").content))
    servers.close()
    assert is_gone(stubborn)
    assert is_gone(old)
    assert [each.state for each in servers.status()] == ["closed", "closed"]


def test_a_server_may_end_by_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    said = tmp_path / "said"
    asked = f"head -c 1 > {os.devnull}"  # it is connected then
    script = f"sleep 1000 & {asked}; echo $$ > {said}; cat > {os.devnull}; echo ended >> {said}"
    servers = McpServers([Configured("kind", ["bash", "-c", script])], QUICK)
    servers.start()
    eventually(lambda: said.exists() and bool(said.read_text()))
    servers.close()
    group, last = said.read_text().split()
    assert last == "ended"
    assert is_gone(int(group))


def test_what_is_closed_while_it_connects_keeps_nothing_open() -> None:
    async def connect() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with process_streams("hasty", ["cat"], {}, lambda: None):
                raise AssertionError("it is cancelled before")

    asyncio.run(connect())
    gc.collect()  # an open pipe or stream warns, and so fails the test


def test_closing_ends_the_calls_that_are_made(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with running(stdio("old")) as servers:
        tool = tool_of(servers, "test__wait")

        def close() -> None:
            eventually(mark.exists)
            servers.close()

        closing = threading.Thread(target=close)
        closing.start()
        context = ToolContext(Path(), "k", "p", "c", Cancellation(), lambda _: None)
        with suppress(ToolError):  # or an error result, where it ended before the loop did
            assert tool.run({"mark": str(mark)}, context).is_error
        closing.join()
        with pytest.raises(ToolError, match="not running any more"):
            tool.run({}, context)


def test_nothing_runs_before_it_is_asked_for() -> None:
    before = threading.active_count()
    servers = McpServers([stdio("old")])
    assert threading.active_count() == before
    assert [each.state for each in servers.status()] == ["starting"]
    servers.close()
    assert servers.tools() == ()
    assert threading.active_count() == before


def test_what_a_server_prints_is_logged_and_quotes_nothing_above_debug(
    modern: McpServers, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        call(modern, "test__long")
        eventually(lambda: "something that is no message" in caplog.text)
    said = [each for each in caplog.records if "no message" in each.getMessage()]
    assert {each.levelno for each in said} == {logging.DEBUG}


@pytest.mark.parametrize(
    ("configured", "reason"),
    [
        (Configured("a b", ["x"]), "needs another name"),
        (Configured("a__b", ["x"]), "needs another name"),
        (Configured("a" * 33, ["x"]), "needs another name"),
        (Configured("a"), "needs either a command or a url"),
        (Configured("a", ["x"], url="http://x"), "needs either a command or a url"),
        (Configured("a", url="ftp://x"), "must be http:// or https://"),
        (Configured("a", ["x"], tool_timeout_s=0), "must be above 0"),
    ],
)
def test_a_server_that_can_not_be_used_is_refused(configured: Configured, reason: str) -> None:
    with pytest.raises(ToolConfigError, match=re.escape(reason)):
        McpServers([configured])


def test_two_servers_of_one_name_are_refused() -> None:
    with pytest.raises(ToolConfigError, match="two MCP servers named test"):
        McpServers([stdio(), stdio()])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def http_server(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [*SERVER, "http", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_over_http_calls_are_cancelled_and_a_server_that_was_gone_is_reached_again(
    tmp_path: Path,
) -> None:
    port = free_port()
    limits = McpLimits(
        restarts_max=1_000, backoff_first_s=0.05, backoff_max_s=0.05, look_every_s=0.2
    )
    url = f"http://localhost:{port}/mcp"
    configured = Configured("far", url=url, headers={"Authorization": "Bearer t"})
    with http_server(port), running(configured, limits=limits) as servers:
        check_cancelling(servers, "far__wait", tmp_path / "mark")
        reports: list[str] = []
        asked = {"a": 1, "b": 2}
        assert call(servers, "far__add", asked, report=reports.append).details == {"result": 3}
        assert reports == ["half of it\n"]
        call(servers, "far__grow")
        eventually(lambda: "far__grown" in names(servers))
        result = call(servers, "far__die")
        assert result.is_error
        eventually(lambda: servers.status()[0].state == "restarting")
        with http_server(port):
            eventually(lambda: servers.status()[0].state == "ready")
            assert call(servers, "far__add", asked).details == {"result": 3}
            assert "far__grown" not in names(servers)


GREENLETS = """
import sys
from persistence.native import patch
patch()
import gevent
from tests.integration.test_mcp import call, running, stdio
from tests.unit.actors.world import eventually
from actors.tools.base import Cancellation, ToolCancelled

turns = 0
def watch():
    global turns
    while True:
        gevent.sleep(0.005)
        turns += 1

with running(stdio(), stdio("old", "old")) as servers:
    gevent.spawn(watch)
    jobs = [gevent.spawn(call, servers, "test__add", {"a": each, "b": 1}) for each in range(20)]
    assert [job.get(timeout=60).details["result"] for job in jobs] == list(range(1, 21))
    cancellation = Cancellation()
    waiting = gevent.spawn(
        call, servers, "test__wait", {"mark": sys.argv[1]}, cancellation=cancellation
    )
    gevent.sleep(0.3)
    cancellation.cancel()
    try:
        waiting.get(timeout=60)
    except ToolCancelled:
        print("cancelled")
    assert call(servers, "old__grow").content
    eventually(lambda: "old__grown" in {each.spec.name for each in servers.tools()})
    assert call(servers, "test__die").is_error
    assert not call(servers, "test__pid").is_error
    assert servers.status()[0].restarts == 1
    print(turns)
print([each.state for each in servers.status()])
"""


def test_greenlets_wait_for_servers_without_keeping_the_others_from_running(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, str(tmp_path / "mark")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cancelled, turns, states = done.stdout.splitlines()
    assert cancelled == "cancelled"
    assert int(turns) >= TURNS_MIN
    assert states == "['closed', 'closed']"


ENDING = """
from persistence.native import patch
patch()
from tests.integration.test_mcp import QUICK, stdio
from actors.tools.mcp import McpServers

servers = McpServers([stdio("old")], QUICK)
servers.start()
servers.close()
"""


@pytest.mark.parametrize(
    "times", [1, pytest.param(4, marks=pytest.mark.exhaustive)], ids=["once", "again and again"]
)
def test_a_process_of_greenlets_ends_well_right_after_its_servers(times: int) -> None:
    for _ in range(times):
        done = subprocess.run([sys.executable, "-c", ENDING], cwd=ROOT, timeout=180, check=False)
        assert done.returncode == 0
