"""The command line's ``doctor``: checks what a gateway needs, and says what to do."""

import json
import logging
import os
import sys
from collections.abc import Callable

import click
import msgspec

from web.cli.base import json_option, to_environment, with_settings
from web.cli.doctor.findings import Finding, Findings, fail, shown
from web.settings import SettingsError, load_settings

SOUND, FAILING = 0, 1
"""Exit statuses: 0 also where there are warnings."""


@click.command()
@click.option(
    "--online", is_flag=True, help="Ask models' providers for their lists, and start MCP servers."
)
@json_option
@with_settings()
def doctor(*, online: bool, as_json: bool, **flags: str | None) -> None:
    r"""Check what a gateway needs, with the flags and variables that it would be served with.

    The settings, the database and its schema, who serves it, files and who can read them, disk
    space, the sandbox, keys, models, MCP servers, tokens, the clock and the port. Nothing is
    changed, and a gateway may run meanwhile. Without --online nobody else is asked; with it each
    provider is asked for its list of models, which costs nothing.

    Each line says ok, warn or fail, and what to do. The exit status is 1 where something fails,
    else 0.

    \b
    Examples:
      sessiond doctor
      sessiond doctor --online --config /etc/sessiond.toml
      sessiond doctor --json | jq '.checks[] | select(.status != "ok")'
    """
    to_environment(flags)
    logging.disable(logging.CRITICAL)
    try:
        found = _found(online=online, as_json=as_json)
    finally:
        logging.disable(logging.NOTSET)
    failing = sum(each.status == "fail" for each in found)
    if as_json:
        click.echo(json.dumps({"ok": not failing, "checks": msgspec.to_builtins(found)}))
    else:
        warnings = sum(each.status == "warn" for each in found)
        click.echo(f"Checked {len(found)}: {failing} failed, {warnings} with a warning.")
    sys.exit(FAILING if failing else SOUND)


def _found(*, online: bool, as_json: bool) -> list[Finding]:
    """Return what all checks find; show it as it comes, unless it is to be JSON."""
    found: list[Finding] = []
    for finding in _all(online=online):
        found.append(finding)
        if not as_json:
            click.echo(shown(finding), color=False if os.environ.get("NO_COLOR") else None)
    return found


def _all(*, online: bool) -> Findings:
    """Yield what each check finds; one that can't be made is a failure, and the others go on."""
    try:
        settings = load_settings()
    except SettingsError as error:
        todo = "Mend it where it was set; docs/configuration.md has all settings."
        yield fail("settings", str(error), todo)
        return
    from persistence.errors import PersistenceError
    from web.cli.doctor import log, machine, services

    try:
        machine.database_file(settings)
    except PersistenceError as error:
        yield fail("database", str(error), "Set database_url; docs/configuration.md shows it.")
        return
    checks = (
        lambda: machine.check_program(settings),
        lambda: log.check_log(settings),
        lambda: machine.check_files(settings),
        lambda: machine.check_space(settings),
        lambda: machine.check_limits(settings),
        lambda: machine.check_sandbox(settings),
        lambda: services.check_models(settings, os.environ, online=online),
        lambda: services.check_servers(settings, online=online),
        lambda: machine.check_address(settings),
    )
    for check in checks:
        yield from _made(check)


def _made(check: Callable[[], Findings]) -> Findings:
    from persistence.errors import PersistenceError

    try:
        yield from check()
    except (PersistenceError, OSError) as error:
        yield fail("check", str(error), "Mend that first, and ask again.")
