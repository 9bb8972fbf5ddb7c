"""Commands for a session in another process, and what came of them, as bytes."""

from typing import Any

import msgspec
from msgspec import Struct

from actors.session import commands as c
from actors.session import rejections
from actors.session.rejections import Rejection
from persistence.errors import StoreUnavailableError

Askable = (
    c.QueuePrompt
    | c.Steer
    | c.CreateSession
    | c.BeginFrom
    | c.RenameSession
    | c.ResetSession
    | c.ReloadSession
    | c.DeleteSession
    | c.SelectModel
    | c.AbortRun
    | c.ResolveApproval
    | c.CompactContext
    | c.ForkSession
    | c.NoteBranch
    | c.HoldSession
    | c.ReleaseSession
    | c.EraseSession
    | c.ErasePart
)
"""What can be asked of a session from outside its process."""


class Done(Struct, frozen=True, tag=True):
    """It is durable; ``seq`` is that of the first event that it led to, 0 for none."""

    seq: int


class Refused(Struct, frozen=True, tag=True):
    """It was rejected: by the rejection's class, with its words and fields."""

    kind: str
    text: str
    fields: dict[str, Any]


class Moved(Struct, frozen=True, tag=True):
    """The process that was asked does not own the session; nothing happened there."""


class Unavailable(Struct, frozen=True, tag=True):
    """The session can't be asked now; why."""

    text: str


Outcome = Done | Refused | Moved | Unavailable

_encode = msgspec.json.Encoder().encode
decode_command = msgspec.json.Decoder(Askable).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode


def encode_command(command: c.Command) -> bytes:
    """Return a command as bytes."""
    assert isinstance(command, Askable)
    return _encode(command)


def encode_outcome(outcome: Outcome) -> bytes:
    """Return an outcome as bytes."""
    return _encode(outcome)


def refused(rejection: Rejection) -> Refused:
    """Return a rejection as an outcome."""
    return Refused(type(rejection).__name__, str(rejection), vars(rejection))


def seq_of(outcome: Done | Refused | Unavailable) -> int:
    """Return what a command led to, or raise why it was refused."""
    if isinstance(outcome, Refused):
        raise _rejection(outcome)
    if isinstance(outcome, Unavailable):
        raise StoreUnavailableError(outcome.text)
    return outcome.seq


def _rejection(refusal: Refused) -> Rejection:
    """Return the rejection as it was raised in the other process."""
    kind = getattr(rejections, refusal.kind, Rejection)
    rejection: Rejection = kind.__new__(kind)
    Exception.__init__(rejection, refusal.text)
    vars(rejection).update(refusal.fields)
    return rejection
