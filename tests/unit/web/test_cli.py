"""The tree of commands: quick to list, each with examples and with JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from actors.audit.exporting.file_check import check_file
from actors.session.events import SessionCreated
from persistence.engine import read_engine, write_engine
from persistence.event_log import SqlEventLog
from tests.sqlite import make_database
from tests.unit.audit.files import appended
from web.cli.main import COMMANDS, main

WITHOUT_JSON = {"serve"}
"""It runs on, and its lines are the log's."""


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


TREE = dict(commands(main))


@pytest.mark.parametrize("name", TREE)
def test_help_shows_an_example_of_the_command_itself(name: str) -> None:
    shown = CliRunner().invoke(main, [*name.split(), "--help"]).output
    assert f"  sessiond {name}" in shown or f"sessiond {name}" in shown.partition("Example")[2]
    assert "Example" in shown


@pytest.mark.parametrize("name", TREE)
def test_whatever_a_command_says_it_says_as_json_too(name: str) -> None:
    command = TREE[name]
    if isinstance(command, click.Group) or name in WITHOUT_JSON:
        return
    assert "--json" in {option for each in command.params for option in each.opts}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["verify"], 2),
        (["prompt", "a/b", "hello"], 2),
        (["sessions", "--no-such"], 2),
        (["token", "list", "--url", "http://127.0.0.1:many"], 2),
        (["token", "list", "--url", "http://127.0.0.1:1"], 1),
        (["checkpoint", "--url", "http://127.0.0.1:1"], 1),
        (["replay", "demo", "--url", "http://127.0.0.1:1"], 1),
        (["verify", "no-such", "--database-url", "sqlite:///no-such.db"], 2),
        (["export", "no-such", "--output", "x", "--database-url", "sqlite:///no-such.db"], 1),
        (["tail", "--all", "--after", "here"], 2),
    ],
)
def test_an_error_is_a_line_and_with_json_an_object(arguments: list[str], status: int) -> None:
    failed = CliRunner().invoke(main, [*arguments, "--json"])
    shown = json.loads(failed.stdout)
    assert (shown["ok"], failed.exit_code) == (False, status)
    assert failed.stderr.endswith(f"Error: {shown['error']}\n")


def test_help_lists_every_command_and_loads_none() -> None:
    script = (
        "import sys; from web.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([each for each in sys.modules if each.startswith(('web.', 'msgspec', 'pydantic'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    shown = done.stdout
    assert shown.endswith("['web.cli', 'web.cli.main']\n")
    for name, lazy in COMMANDS.items():
        assert f"{name} " in shown
        assert lazy.summary in shown


def test_shells_complete_commands() -> None:
    printed = CliRunner().invoke(main, ["completion", "bash"]).output
    assert "complete -o nosort -F _sessiond_completion sessiond" in printed
    shells = {"bash": "plain,chat", "zsh": "plain\nchat", "fish": "plain,chat"}
    for shell, found in shells.items():
        environment = {
            "_SESSIOND_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": "sessiond cha",
            "COMP_CWORD": "cha" if shell == "fish" else "1",
        }
        assert found in CliRunner().invoke(main, [], prog_name="sessiond", env=environment).output
        assert CliRunner().invoke(main, ["completion", shell]).exit_code == 0


def test_an_export_is_not_written_through_a_link_that_waits_for_it(tmp_path: Path) -> None:
    url = make_database(tmp_path / "log.db")
    log = SqlEventLog(write_engine(url), read_engine(url))
    appended(log, "a", [SessionCreated(session_id="s1", at=1)])
    log.close()
    output, mine = tmp_path / "a.jsonl", tmp_path / "mine"
    mine.write_text("mine")
    waiting = tmp_path / f"a.jsonl.{os.getpid()}.part"
    waiting.symlink_to(mine)
    command = ["export", "a", "--output", str(output), "--database-url", str(url)]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "can't be written" in refused.output
    assert mine.read_text() == "mine"
    waiting.unlink()
    assert CliRunner().invoke(main, command).exit_code == 0
    assert check_file(output).ok
