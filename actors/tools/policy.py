"""Which calls are made at once, which a person is asked about, and which are refused. Pure."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec
from msgspec import Struct

from actors.tools.base import Effect

Action = Literal["allow", "ask", "deny"]


class ToolRule(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done about some calls.

    ``tool`` is a glob on the tool's name. ``arguments`` are globs on the text of single
    arguments, JSON where they are none; all must match, and a missing argument matches nothing.
    Where a rule allows, ``*`` does not reach beyond the end of a line; elsewhere it does.
    ``unsandboxed`` lets a rule allow commands that no sandbox holds.
    """

    tool: str
    action: Action
    arguments: dict[str, str] = {}
    unsandboxed: bool = False


class Decision(Struct, frozen=True):
    """What is done about a call; ``reason`` is one sentence that may be shown."""

    action: Action
    reason: str


def decide_policy(
    rules: Sequence[ToolRule],
    tool_name: str,
    effect: Effect,
    arguments: Mapping[str, Any],
    *,
    sandboxed: bool,
) -> Decision:
    """Return what the first rule that matches says, otherwise that the call is allowed.

    A tool that executes without a sandbox is asked about, unless a rule denies it or allows it
    ``unsandboxed``.
    """
    number, rule = next(
        (
            (number, rule)
            for number, rule in enumerate(rules, 1)
            if _matches(rule, tool_name, arguments)
        ),
        (0, None),
    )
    loose = effect == "execute" and not sandboxed
    if rule is not None and (rule.action != "allow" or rule.unsandboxed or not loose):
        return Decision(rule.action, f"Rule {number} says {rule.action} to {tool_name}.")
    if loose:
        return Decision("ask", f"No sandbox holds what {tool_name} does.")
    return Decision("allow", f"No rule says otherwise of {tool_name}.")


def _matches(rule: ToolRule, tool_name: str, arguments: Mapping[str, Any]) -> bool:
    return fnmatchcase(tool_name, rule.tool) and all(
        name in arguments and _glob_matches(rule, glob, _text_of(arguments[name]))
        for name, glob in rule.arguments.items()
    )


def _glob_matches(rule: ToolRule, glob: str, text: str) -> bool:
    """Match line by line where a rule allows: a second line is a second command to a shell."""
    if rule.action != "allow":
        return fnmatchcase(text, glob)
    lines, globs = text.split("\n"), glob.split("\n")
    return len(lines) == len(globs) and all(map(fnmatchcase, lines, globs))


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
