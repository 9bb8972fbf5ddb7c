"""A conversation in the terminal: what is shown, what is asked, and what can be typed meanwhile."""

import json
import os
from collections.abc import Callable
from typing import Any

import click

from actors.feed import Committed
from actors.session import events as e
from actors.session.state import SessionState
from web.cli.client import Refused
from web.cli.follow import Follower
from web.cli.frames import Drawn, Frame
from web.cli.screen import Screen
from web.cli.talk import Talk
from web.cli.text import in_a_line, printable

APPROVALS = ("ask", "approve", "deny")
COMPLETED = "completed"
DONE, FAILED, AWAITS_APPROVAL = 0, 1, 3
"""Exit statuses."""

HISTORY_MESSAGES = 20
TYPED_BYTES = 65_536
LOST = "(The connection is lost; trying to come back.)"

HELP = """\
/abort               end what runs (so does Ctrl-C)
/steer TEXT          say more to what runs, before its next model call
/model [NAME]        show the models, or choose one as provider/id
/history [N]         show the newest messages, by default 20
/help                show this
/quit                leave (so does Ctrl-D); what runs goes on

A line that ends with \\ goes on in the next one; \"\"\" begins and ends several lines.
What is typed while a prompt runs waits for its turn."""


class Leave(Exception):
    """Whoever talks has had enough; what runs goes on."""


class Conversation:
    """Shows one session's events, and takes what is typed on ``typing``, a file descriptor.

    ``status`` is how the command is to exit: by the last prompt that ended; ``aborted`` tells that
    Ctrl-C ended what was watched last. With ``as_json`` it
    prints the events themselves.
    """

    def __init__(
        self, talk: Talk, approvals: str, typing: int | None, *, as_json: bool = False
    ) -> None:
        self.status = DONE
        self.aborted = False
        self._talk = talk
        self._approvals = approvals
        self._typing = typing
        self._as_json = as_json
        self._screen = Screen()
        self._drawn = Drawn()
        self._state = SessionState(talk.key)
        self._prompts: set[str] = set()
        self._waiting: list[str] = []
        self._asked: str | None = None
        self._lost = False
        self._commands: dict[str, Callable[[str], str]] = {
            "abort": self._abort,
            "steer": self._steer,
            "model": self._model,
            "history": self._history,
            "help": lambda _rest: HELP,
        }

    def attach(self) -> None:
        """Show what runs already."""
        running = self._talk.running()
        if running is not None:
            self._prompts.add(running["id"])
            emit(printable(f"> {running.get('prompt', '')}\n"))

    def say(self, text: str) -> None:
        """Prompt the session. Raises Refused or Unreachable."""
        self._prompts.add(self._talk.say(text))

    def typed(self, text: str) -> None:
        """Do what a line says: a command, an answer, or a prompt. Raises Leave or Unreachable."""
        text = text.strip()
        try:
            if text.startswith("/"):
                self._command(text)
            elif self._waiting and text:
                self._answer(text)
            elif text:
                self.say(text)
        except Refused as error:
            self._note(error.message)

    def watch(self) -> None:
        """Show what happens until every prompt has ended, or waits for an approval in vain.

        Raises Leave, Refused or Unreachable. Ctrl-C aborts what runs; once more, it leaves.
        """
        self.aborted = False
        if not self._prompts:
            return
        assert self._talk.cursor is not None
        with Follower(self._talk.client, self._talk.key, self._talk.cursor) as follower:
            while self._prompts:
                try:
                    self._step(follower)
                except KeyboardInterrupt:
                    self._interrupted()
                if self.status == AWAITS_APPROVAL:
                    break
        emit(self._screen.end())

    def _step(self, follower: Follower) -> None:
        """Wait for an event or a typed line, and take it."""
        if follower.wait(self._typing):
            assert self._typing is not None
            text = os.read(self._typing, TYPED_BYTES).decode(errors="replace")
            if not text:
                raise Leave
            for line in text.splitlines():
                self.typed(line)
        frames = follower.take()
        if follower.lost and not self._lost:
            self._note(LOST)
        self._lost = follower.lost
        for frame in frames:
            self._show(frame)
        if frames and _may_be_an_end(frames):
            self._settle()
        if self._waiting and self._asked != self._waiting[0]:
            self._ask()

    def _show(self, frame: Frame) -> None:
        self._talk.cursor = frame.seq
        if self._as_json:
            click.echo(json.dumps({"seq": frame.seq, **frame.fields}))
        for event in self._drawn.events(frame):
            emit(
                ""
                if self._as_json
                else self._screen.show(Committed(frame.seq, event, self._state, 0))
            )
            if isinstance(event, e.ApprovalRequested):
                self._waiting.append(event.approval_id)
            if isinstance(event, e.ApprovalResolved) and event.approval_id in self._waiting:
                self._waiting.remove(event.approval_id)

    def _settle(self) -> None:
        """Note which prompts have ended, and how."""
        for prompt_id, outcome in self._talk.ended(self._prompts).items():
            self._prompts.discard(prompt_id)
            self.status = DONE if outcome == COMPLETED else FAILED
            if outcome not in (COMPLETED, *_SHOWN_OUTCOMES):
                self._note(f"The prompt was {outcome}.")

    def _interrupted(self) -> None:
        if self.aborted:
            raise Leave
        self.aborted = True
        try:
            self._talk.abort()
        except Refused as error:
            self._note(error.message)

    def _ask(self) -> None:
        """Have the first call that waits approved or denied, as was said or by who is there."""
        self._asked = self._waiting[0]
        if self._approvals != "ask":
            self._resolve(approved=self._approvals == "approve", reason="")
        elif self._typing is None:
            self.status = AWAITS_APPROVAL
        else:
            emit(self._screen.end() + "Allow it? [y/n, or n and why] ")

    def _answer(self, text: str) -> None:
        word, _, reason = text.partition(" ")
        if word.lower() not in ("y", "yes", "n", "no"):
            emit("Answer y or n, or n and a reason for the model: ")
            return
        self._resolve(approved=word.lower().startswith("y"), reason=reason.strip())

    def _resolve(self, *, approved: bool, reason: str) -> None:
        approval_id = self._waiting.pop(0)
        try:
            self._talk.resolve(approval_id, approved=approved, reason=reason)
        except Refused as error:  # somebody else was faster, or its time was over
            self._note(error.message)

    def _command(self, text: str) -> None:
        name, _, rest = text[1:].partition(" ")
        if name in ("quit", "exit"):
            raise Leave
        command = self._commands.get(name)
        unknown = f"There is no /{in_a_line(name)}; /help lists all."
        said = unknown if command is None else command(rest.strip())
        emit(f"{self._screen.end()}{said}\n" if said else "")

    def _abort(self, _rest: str) -> str:
        return "" if self._talk.abort() else "Nothing runs."

    def _steer(self, text: str) -> str:
        if not text:
            return "Say what: /steer TEXT."
        if not self._prompts:
            self.say(text)
            return ""
        return "" if self._talk.steer(text) == "steer" else "It waits for its turn."

    def _model(self, name: str) -> str:
        provider, _, model_id = name.partition("/")
        if name:
            self._talk.choose(provider, model_id)
            return f"From now on {in_a_line(name)}."
        session = self._talk.snapshot() or {}
        used = f"{session.get('modelProvider')}/{session.get('modelId')}"
        names = [f"{each['provider']}/{each['modelId']}" for each in self._talk.models()]
        return "\n".join([in_a_line(f"{'*' if each == used else ' '} {each}") for each in names])

    def _history(self, count: str) -> str:
        limit = int(count) if count.isascii() and count.isdigit() and int(count) else 0
        messages = self._talk.history(limit or HISTORY_MESSAGES)
        return "\n".join([shown_message(each) for each in messages])

    def _note(self, text: str) -> None:
        """Say something that is not the conversation; in a pipe beside it."""
        beside = self._typing is None
        emit("" if beside else self._screen.end())
        emit(f"{dimmed(printable(text))}\n", err=beside)


_SHOWN_OUTCOMES = ("failed", "aborted", "interrupted", "deleted")
"""The screen says so itself."""


def _may_be_an_end(frames: list[Frame]) -> bool:
    """Tell whether a run may have ended with one of these."""
    return any(
        frame.kind in ("error", "aborted", "session_deleted")
        or (frame.kind == "session_state" and not frame.fields["snapshot"]["processing"])
        for frame in frames
    )


def shown_message(message: dict[str, Any]) -> str:
    """Return a message of a history as the terminal shows it."""
    parts = [_shown_part(part) for part in message["parts"]]
    text = "\n".join([part for part in parts if part])
    return click.style(f"> {text}", bold=True, fg="cyan") if message["role"] == "user" else text


def _shown_part(part: dict[str, Any]) -> str:
    kind = part["type"]
    if kind == "text":
        return printable(part["text"])
    if kind == "reasoning":
        return dimmed(printable(part["text"]))
    if kind == "file":
        return dimmed("[a picture]")
    if part["state"] == "call":
        return click.style(
            printable(f"* {part['toolName']} {json.dumps(part.get('args'))}"), fg="yellow"
        )
    return dimmed(printable(str(part.get("result", ""))))


def dimmed(text: str) -> str:
    """Return a text as something that is not the conversation itself."""
    return click.style(text, dim=True)


def emit(text: str, *, err: bool = False) -> None:
    """Write to the terminal at once, without colours where NO_COLOR says so."""
    if text:
        plain = False if os.environ.get("NO_COLOR") else None
        click.echo(text, nl=False, err=err, color=plain)
