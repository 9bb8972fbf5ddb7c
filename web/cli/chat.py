"""The command line's ``chat``: a conversation with a session, in the terminal or through a pipe."""

import contextlib
import sys
from typing import Any

import click

from web.cli.base import prepared, with_settings
from web.cli.client import client_of, url_option
from web.cli.conversation import (
    APPROVALS,
    AWAITS_APPROVAL,
    Conversation,
    Leave,
    dimmed,
    emit,
)
from web.cli.talk import Talk
from web.cli.text import in_a_line

BLOCK = '"""'
INTERRUPTED = 130


@click.command()
@click.argument("key", required=False)
@click.option(
    "--approvals",
    type=click.Choice(APPROVALS),
    default="ask",
    show_default=True,
    help="What to answer to tool calls that wait for approval.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each event; for pipes only.")
@url_option
@with_settings("bind", "port", "token", "primary_session")
def chat(
    key: str | None, approvals: str, url: str | None, *, as_json: bool, **flags: str | None
) -> None:
    r"""Talk with a session of a running gateway; by default with the primary session.

    The answer is shown as it streams: thinking dimmed, tool calls with their results, and a
    question for each call that waits for approval. /help lists what else can be typed. A lost
    connection is taken up again where it broke off. Through a pipe all of the input is one
    prompt, and with --json each line of the output is an event, as GET /sessions/KEY/events has
    it, and its seq.

    The exit status is 0 when the last prompt's run completed, 1 when it did not, 3 when it waits
    for an approval that nobody can be asked for. The token (--token or SESSIOND_TOKEN) needs the
    scopes read and prompt.

    \b
    Examples:
      sessiond chat
      sessiond chat demo --url http://localhost:8787
      echo "What is in this folder?" | sessiond chat demo --approvals deny
      sessiond chat review < question.txt > answer.txt
      echo "hello" | sessiond chat demo --json | jq -r .type
    """
    if as_json and sys.stdin.isatty():
        raise click.UsageError("With --json the prompt comes through a pipe.")
    with prepared(flags) as settings:
        talk = Talk(client_of(settings, url), key or settings.primary_session)
        if sys.stdin.isatty():
            sys.exit(_in_terminal(talk, approvals))
        sys.exit(_piped(talk, approvals, sys.stdin.read(), as_json=as_json))


def _piped(talk: Talk, approvals: str, text: str, *, as_json: bool) -> int:
    """Say one thing, and follow it to its end; return the exit status."""
    if not text.strip():
        raise click.UsageError("There is nothing to say: the input is empty.")
    talk.join()
    conversation = Conversation(talk, approvals, typing=None, as_json=as_json)
    try:
        conversation.say(text.strip())
        conversation.watch()
    except Leave:
        return INTERRUPTED
    if conversation.status == AWAITS_APPROVAL:
        click.echo(
            f"A tool call waits for approval: answer it in sessiond chat {talk.key}.", err=True
        )
    return conversation.status


def _in_terminal(talk: Talk, approvals: str) -> int:
    """Read what is typed, say it, show what comes; return the exit status."""
    _edit_lines()
    session = talk.join()
    emit(_title(talk.key, session))
    conversation = Conversation(talk, approvals, typing=sys.stdin.fileno())
    with contextlib.suppress(Leave, EOFError):
        if session is not None and session["processing"]:
            conversation.attach()
            conversation.watch()
        _take_lines(conversation)
    return conversation.status


def _take_lines(conversation: Conversation) -> None:
    """Do what each line says, until Ctrl-C comes twice in a row. Raises EOFError or Leave."""
    interrupted = False
    while True:
        try:
            line = _read()
            interrupted = False
            conversation.typed(line)
            conversation.watch()
        except KeyboardInterrupt:
            click.echo()
            if interrupted or conversation.aborted:
                return
            interrupted = True
            emit(dimmed("(Ctrl-C once more leaves.)") + "\n")


def _read() -> str:
    """Return what is typed, lines that belong together as one. Raises EOFError."""
    line = input("> ")
    if line.strip() == BLOCK:
        return "\n".join(iter(lambda: input(". "), BLOCK))
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input(". "))
    return "\n".join(lines)


def _title(key: str, session: dict[str, Any] | None) -> str:
    known = "new" if session is None else f"{session['messageCount']} messages"
    model = "" if session is None else f", {session['modelProvider']}/{session['modelId']}"
    return dimmed(in_a_line(f"{key}: {known}{model}. /help lists what can be typed.")) + "\n"


def _edit_lines() -> None:
    """Have lines edited and remembered, where Python can."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - it changes what input does
