"""docs/cli.md names every command, and nothing that isn't."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from web.cli.main import main

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def leaves(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, *path, name)


def test_every_command_is_documented_with_its_arguments() -> None:
    documented = re.findall(r"^\| `sessiond ([^`]+)` \|", TEXT, re.M)
    context = click.Context(main)
    expected = []
    for name, command in leaves(main):
        taken = [
            each.make_metavar(context)
            for each in command.params
            if isinstance(each, click.Argument)
        ]
        expected.append(" ".join([name, *taken]))
    shells = "bash\\|zsh\\|fish"
    written = [each.replace(shells, "{bash|zsh|fish}") for each in documented]
    assert sorted(written) == sorted(expected)


def test_every_flag_of_an_example_is_the_commands() -> None:
    commands = dict(leaves(main))
    found = 0
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S):
        for name, given in re.findall(r"sessiond ([a-z-]+)([^|#\n>]*)", block):
            known = {option for each in commands[name].params for option in each.opts}
            assert set(re.findall(r"--[a-z-]+", given)) <= known
            found += 1
    assert found > 5
