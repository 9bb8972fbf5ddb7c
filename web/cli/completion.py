"""The command line's ``completion``: what has a shell complete the others."""

import json

import click
from click.shell_completion import get_completion_class

from web.cli.base import json_option

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "sessiond"
VARIABLE = "_SESSIOND_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
def completion(shell: str, *, as_json: bool) -> None:
    r"""Print what completes commands in a shell.

    \b
    Examples:
      eval "$(sessiond completion bash)"                                # in ~/.bashrc
      eval "$(sessiond completion zsh)"                                 # in ~/.zshrc
      sessiond completion fish > ~/.config/fish/completions/sessiond.fish
    """
    from web.cli.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(main, {}, PROGRAM, VARIABLE)
    source = script.source_template % script.source_vars()
    click.echo(json.dumps({"shell": shell, "script": source}) if as_json else source)
