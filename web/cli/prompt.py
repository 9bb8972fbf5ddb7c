"""The command line's ``prompt``: one prompt, one answer."""

import json
import sys
import uuid
from typing import Any, NoReturn

import click

from web.cli.base import json_option, prepared, with_settings
from web.cli.client import Refused, client_of, session_path, url_option
from web.cli.talk import repeated
from web.cli.text import in_a_line, printable

DONE, FAILED, AWAITS_APPROVAL, INTERRUPTED = 0, 1, 3, 130
"""Exit statuses."""


@click.command()
@click.argument("key")
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@json_option
@url_option
@with_settings("bind", "port", "token")
def prompt(
    key: str, texts: tuple[str, ...], *, as_json: bool, url: str | None, **flags: str | None
) -> None:
    r"""Prompt a session once, and print the answer when its run has ended.

    Without TEXT the prompt is the standard input, and so is a TEXT that is a dash. The session is
    made where it is missing. When the connection is lost meanwhile it is asked again
    for the same prompt's answer: it never runs twice.

    The exit status is 0 when the run completed, 1 when it did not, 3 when a tool call waits for
    approval. The token (--token or SESSIOND_TOKEN) needs the scope prompt.

    \b
    Examples:
      sessiond prompt demo "Summarise yesterday"
      git diff | sessiond prompt review "Review this change:" -
      sessiond prompt demo "hello" --json | jq -r .response
    """
    with prepared(flags) as settings:
        client = client_of(settings, url)
        path, body = session_path(key, "messages"), {"text": _whole(texts)}
        client.call("GET", "/health")
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        try:
            answer = repeated(
                lambda: client.call("POST", path, body, headers=headers, timeout_s=None)
            )
        except Refused as error:
            if not as_json:
                raise
            answer = {"ok": False, "error": error.message, "status": error.status}
        except KeyboardInterrupt:
            click.echo(f"\nWhat runs goes on: sessiond chat {key} shows it.", err=True)
            sys.exit(INTERRUPTED)
        _finish(answer, as_json=as_json)


def _whole(texts: tuple[str, ...]) -> str:
    """Return the prompt, the standard input in place of a dash, or all of it."""
    parts = [_piped() if each == "-" else each for each in texts or ("-",)]
    whole = "\n\n".join([each.strip() for each in parts if each.strip()])
    if not whole:
        raise click.UsageError("There is nothing to say: give TEXT, or pipe it in.")
    return whole


def _piped() -> str:
    if sys.stdin.isatty():
        click.echo("Type the prompt, and Ctrl-D after its last line.", err=True)
    return sys.stdin.read()


def _finish(answer: dict[str, Any], *, as_json: bool) -> NoReturn:
    approvals = answer.get("approvals") or []
    if as_json:
        click.echo(json.dumps(answer))
    else:
        if answer.get("response"):
            click.echo(printable(answer["response"]) if sys.stdout.isatty() else answer["response"])
        for each in approvals:
            said = f"{each['toolName']} waits for approval: {each['reason']}"
            click.echo(in_a_line(said), err=True)
    if approvals:
        sys.exit(AWAITS_APPROVAL)
    sys.exit(DONE if answer["ok"] else FAILED)
