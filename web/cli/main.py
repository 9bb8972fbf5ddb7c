"""The command line ``sessiond``: its commands, each loaded when it is wanted."""

import importlib
import io
import json
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple, NoReturn

import click
from click.shell_completion import CompletionItem


class Lazy(NamedTuple):
    """A command: where it is, and what the list of commands says of it."""

    module: str
    name: str
    summary: str


COMMANDS = {
    "chat": Lazy("chat", "chat", "Talk with a session of a running gateway."),
    "checkpoint": Lazy("keys", "checkpoint", "Sign a checkpoint now, and print the latest one."),
    "completion": Lazy("completion", "completion", "Print what completes commands in a shell."),
    "doctor": Lazy("doctor.command", "doctor", "Check everything a gateway needs; say what to do."),
    "encryption": Lazy("vault", "encryption", "Make and exchange the master key of the log."),
    "export": Lazy("export", "export", "Write a session's whole log to a file."),
    "grants": Lazy("serve", "grants", "Print the SQL for a PostgreSQL role that serves."),
    "import": Lazy("export", "import_", "Restore an exported session, bit for bit."),
    "import-pi": Lazy("serve", "import_pi", "Turn a recorded pi session into a session."),
    "keys": Lazy("keys", "keys", "Make, show and rotate the key that signs."),
    "migrate": Lazy("serve", "migrate", "Bring the database's schema up to this program's."),
    "prompt": Lazy("prompt", "prompt", "Prompt a session once, and print the answer."),
    "replay": Lazy("replay", "replay", "Play a session as it happened."),
    "serve": Lazy("serve", "serve", "Serve the gateway."),
    "sessions": Lazy("sessions", "sessions", "List sessions, and search among them."),
    "tail": Lazy("tail", "tail", "Follow the log as it grows."),
    "token": Lazy("tokens", "token", "Issue, list and revoke named tokens."),
    "verify": Lazy("audit", "verify", "Verify a log, or a file of one."),
}
"""To import them all would take longer than to show the help."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


class Commands(MutableMapping[str, click.Command]):
    """Commands by their names, imported on the first look."""

    def __init__(self) -> None:
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        """Return a command. Raises KeyError."""
        if name not in self._loaded:
            self._loaded[name] = _load(COMMANDS[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS.keys() | self._loaded.keys())

    def __len__(self) -> int:
        return len(COMMANDS.keys() | self._loaded.keys())


def _load(lazy: Lazy) -> click.Command:
    """Import a command."""
    command: click.Command = getattr(importlib.import_module(f"web.cli.{lazy.module}"), lazy.name)
    _keep_lines_of_examples(command)
    return command


def _keep_lines_of_examples(command: click.Command) -> None:
    r"""Make the two characters ``\b`` of raw docstrings the one that click looks for."""
    command.help = (command.help or "").replace("\\b", "\b")
    for inner in getattr(command, "commands", {}).values():
        _keep_lines_of_examples(inner)


class LazyGroup(click.Group):
    """The group of all commands; to list them it imports none."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their summaries."""
        rows = [(name, COMMANDS[name].summary) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, and the group's own flags."""
        found = [
            CompletionItem(name, help=COMMANDS[name].summary)
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]  # noqa: ANN401 - click's; it always ends the program
        """Run a command and exit: each error is a line, and JSON too where JSON was asked for."""
        given = sys.argv[1:] if args is None else list(args)
        try:
            status = super().main(given, **extra | {"standalone_mode": False})
        except click.Abort:
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            _fail(error, as_json="--json" in given)
        except OSError as error:
            _fail(click.ClickException(str(error)), as_json="--json" in given)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(error: click.ClickException, *, as_json: bool) -> NoReturn:
    """Say what went wrong and exit. A server's words can be in it, and so a model's."""
    from web.cli.text import printable

    said = io.StringIO()
    error.show(said)
    click.echo(printable(said.getvalue()), nl=False, err=True)
    if as_json:
        refusal = {"ok": False, "error": error.format_message()}
        status = getattr(error, "status", None)
        click.echo(json.dumps(refusal if status is None else refusal | {"status": status}))
    sys.exit(error.exit_code)


@click.group(
    cls=LazyGroup,
    commands=Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="sessiond")
def main() -> None:
    r"""Serve long-lived AI-agent sessions; the event log proves what happened.

    \b
    Examples:
      sessiond serve                          listen on 127.0.0.1:8787
      sessiond doctor                         what is missing, and what to do about it
      sessiond chat demo                      talk with a session
      echo "Say hi" | sessiond prompt demo    one answer, for scripts
      sessiond tail --all                     watch the log grow
      sessiond COMMAND --help                 what a command takes, with examples
    """


main.help = (main.help or "").replace("\\b", "\b")


if __name__ == "__main__":
    main()
