"""What a check of ``sessiond doctor`` found, and how it is shown."""

from collections.abc import Iterator
from typing import Literal

import click
from msgspec import Struct

from web.cli.text import in_a_line

Status = Literal["ok", "warn", "fail"]

COLOURS: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


class Finding(Struct, frozen=True, omit_defaults=True):
    """What one check says: how it is, and where something is wrong what to do about it."""

    check: str
    status: Status
    said: str
    todo: str = ""


Findings = Iterator[Finding]


def ok(check: str, said: str) -> Finding:
    """Return that all is well."""
    return Finding(check, "ok", said)


def warn(check: str, said: str, todo: str) -> Finding:
    """Return that a gateway runs, but that somebody should know."""
    return Finding(check, "warn", said, todo)


def fail(check: str, said: str, todo: str) -> Finding:
    """Return that a gateway does not start, or would not do what it was asked to."""
    return Finding(check, "fail", " ".join(said.split()), todo)


def shown(finding: Finding) -> str:
    """Return a finding as its lines."""
    status = click.style(f"{finding.status:4}", fg=COLOURS[finding.status], bold=True)
    line = f"{status}  {finding.check:12}  {in_a_line(finding.said)}"
    return f"{line}\n{'':20}→ {in_a_line(finding.todo)}" if finding.todo else line
