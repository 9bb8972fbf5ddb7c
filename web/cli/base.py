"""What the command line's commands share: flags for settings, and errors in a line."""

import contextlib
import logging
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import click

from web.cli.text import printable
from web.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, SettingsError, load_settings

PRINCIPAL = "cli"
"""Who the log says gave a command that came from here."""

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def echo_machine(line: str | bytes) -> None:
    """Print a line for programs: as it is, but in a terminal without what would command that."""
    if sys.stdout.isatty():
        line = printable(line if isinstance(line, str) else line.decode(errors="replace"))
    click.echo(line)


def _metavar(annotation: Any) -> str:  # noqa: ANN401 - any type
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return "JSON"
    if isinstance(annotation, types.UnionType):
        annotation = typing.get_args(annotation)[0]
    names = {int: "N", float: "N"}
    return names.get(annotation, "TEXT")


def with_settings(*names: str) -> Decorator:
    """Give a command a flag for each of the settings, by default for all of them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name, field in reversed(Settings.model_fields.items()):
            if names and name not in names:
                continue
            default = "" if field.default is None else f" [default: {field.default}]"
            command = click.option(
                f"--{name.replace('_', '-')}",
                name,
                metavar=_metavar(field.annotation),
                help=f"{field.description}{default}",
            )(command)
        return click.option(
            "--config", metavar="FILE", help="TOML file with settings, by their names."
        )(command)

    return decorate


@contextlib.contextmanager
def prepared(flags: dict[str, str | None]) -> Iterator[Settings]:
    """Yield the settings, and show what can be expected to go wrong in a line."""
    to_environment(flags)
    settings = settings_now()
    with clear_errors():
        yield settings


class clear_errors:  # noqa: N801 - used as a function
    """Turn what can be expected to go wrong into one line and exit status 1."""

    def __enter__(self) -> None:
        logging.disable(logging.CRITICAL)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        logging.disable(logging.NOTSET)
        if error is None or isinstance(error, SystemExit):
            return
        from actors.errors import SessionNotFound
        from actors.pi_import import PiFormatError
        from actors.session.rejections import Rejection
        from persistence.errors import PersistenceError
        from web.errors import Problem

        known = PersistenceError | Rejection | Problem | PiFormatError | SessionNotFound
        if isinstance(error, known):
            raise click.ClickException(str(error)) from error


def settings_now() -> Settings:
    """Return the settings; show what is wrong with them in a line."""
    try:
        return load_settings()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def to_environment(flags: dict[str, str | None]) -> None:
    """Hand flags on by the environment: worker processes read their settings there."""
    config = flags.pop("config", None)
    if config is not None:
        os.environ[CONFIG_VARIABLE] = config
    for name, value in flags.items():
        if value is not None:
            os.environ[f"{ENV_PREFIX}{name.upper()}"] = value
