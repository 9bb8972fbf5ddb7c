"""What is asked and answered about sessions as they were, and the state that a place means."""

from typing import Annotated, Any

import falcon
from msgspec import UNSET, Meta, Struct, UnsetType

from actors.audit.travel.places import state_as_of
from actors.audit.travel.replaying import GAP_MAX_S, Pace, SpeedError, speed_of
from actors.errors import SessionNotFound
from actors.replay import stream_of
from actors.session.state import SessionState
from actors.session.summary import SessionSummary, ShownUsage
from persistence.records import Head
from web.bootstrap import Gateway
from web.errors import Problem
from web.inputs import AnyText, Count, HistoryQuery
from web.keys import checked_key
from web.operations import AUDIT, Refusable
from web.schemas import HistoryMessage, ModelChoice

MESSAGES = 100
MESSAGES_MAX = 1_000
RUNS = 50
RUNS_MAX = 200
GAP_MAX_MS_MOST = 3_600_000
SSE = "sse"
AI_SDK = "ai-sdk"

PlaceText = Annotated[
    str,
    Meta(
        description="An event's seq, a message's id, or a time of RFC 3339.",
        extra_json_schema={"pattern": "^[0-9A-Za-z:.+ -]{1,100}$"},
    ),
]
"""Who reads one says better what is wrong with it than a pattern could."""


class PastQuery(HistoryQuery, frozen=True):
    """Which messages to show, as of ``at``."""

    at: PlaceText | None = None


class DiffQuery(Refusable, frozen=True, rename={"start": "from"}):
    """From where to where, or which other session; ``limit`` is how many messages are shown."""

    start: PlaceText | None = None
    to: PlaceText | None = None
    other: str | None = None
    limit: Count | None = None

    def __post_init__(self) -> None:
        """Refuse both, and neither."""
        if (self.start is None) == (self.other is None):
            raise Problem(400, "A diff needs either from, a place in the log, or another session.")

    @property
    def messages(self) -> int:
        """Return how many messages are wanted at most."""
        return min(self.limit or MESSAGES, MESSAGES_MAX)


class ForkBody(Refusable, frozen=True, rename="camel"):
    """The key of a session to make, as of ``at`` (by default now), and its model."""

    key: str
    at: PlaceText | Annotated[int, Meta(ge=0, le=10**18 - 1)] | None = None
    provider: AnyText = None
    model_id: AnyText = None


class RerunBody(Refusable, frozen=True, rename="camel"):
    """The model that answers the prompt once more, and the key of the session where it does."""

    provider: str
    model_id: str
    key: str | None = None


class RunsQuery(Refusable, frozen=True):
    """Which runs to list: the newest ``limit`` of those that began before the seq ``before``."""

    limit: Count | None = None
    before: Count | None = None


class ReplayQuery(Refusable, frozen=True, rename="camel"):
    """What to play and how fast."""

    speed: Annotated[str, Meta(extra_json_schema={"pattern": "^(max|[0-9.]{1,8}x?)$"})] = "1"
    at: PlaceText | None = None
    to: PlaceText | None = None
    gap_max_ms: Count | None = None
    format: Annotated[str, Meta(pattern=f"^(?:{SSE}|{AI_SDK})$")] = SSE
    run: str | None = None

    def pace(self) -> Pace:
        """Return how fast to play. Raises Problem 400."""
        gap_max_s = GAP_MAX_S
        if self.gap_max_ms is not None:
            gap_max_s = min(self.gap_max_ms, GAP_MAX_MS_MOST) / 1_000
        try:
            return Pace(speed_of(self.speed), gap_max_s)
        except SpeedError as error:
            raise Problem(400, str(error)) from error


class Origin(Struct, frozen=True, rename="camel"):
    """Where a fork comes from: ``hash`` is the event's link of the hash chain."""

    session_key: str
    session_id: str
    seq: int
    hash: str


class ForkAnswer(Struct, frozen=True, rename="camel"):
    """A fork; ``made`` is false where it was there before."""

    ok: bool
    made: bool
    session: SessionSummary
    forked_from: Origin


class RerunAnswer(Struct, frozen=True, rename="camel"):
    """A prompt that waits in a fork; ``forked_at`` is the seq in the run's own session."""

    ok: bool
    session_key: str
    prompt_id: str
    forked_at: int


class RunShown(Struct, frozen=True, rename="camel"):
    """A run; ``outcome`` is completed, failed, aborted, interrupted, running or waiting."""

    id: str
    outcome: str
    started_seq: int
    started_at: int
    usage: ShownUsage
    ended_seq: int | UnsetType = UNSET
    ended_at: int | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    model: ModelChoice | UnsetType = UNSET


class RunList(Struct, frozen=True, rename="camel"):
    """Runs, the newest first; ``next_before`` where there are more."""

    runs: list[RunShown]
    next_before: int | UnsetType = UNSET


class Change(Struct, frozen=True):
    """A field of a session's summary; null where it was not set."""

    before: Any
    after: Any


class Changes(Struct, frozen=True, rename={"start": "from"}):
    """What happened in a session between two seqs.

    ``messages`` are those that came, the oldest first, ``more`` whether there are further ones;
    ``gone`` is how many of the first place's are not in the second: reset, deleted or erased.
    """

    start: int
    to: int
    events: dict[str, int]
    fields: dict[str, Change]
    usage: ShownUsage
    gone: int
    messages: list[HistoryMessage]
    more: bool


class SideShown(Struct, frozen=True):
    """One of two sessions: its messages after ``after``, where the two part, up to ``seq``."""

    session: SessionSummary
    seq: int
    after: int
    messages: list[HistoryMessage]
    more: bool


class Comparison(Struct, frozen=True, rename="camel"):
    """Two sessions: how many messages they have in common from the first on, then the others."""

    common: int
    mine: SideShown
    theirs: SideShown
    forked_from: Origin | UnsetType = UNSET


class DiffAnswer(Struct, frozen=True, rename="camel"):
    """What changed in a session, or how it differs from another one."""

    session_key: str
    changes: Changes | UnsetType = UNSET
    comparison: Comparison | UnsetType = UNSET


def head_of(gateway: Gateway, request: falcon.Request, key: str) -> Head:
    """Return where a session's log ends. Raises SessionNotFound.

    One that is deleted is there for those only who may read the raw log.
    """
    try:
        gateway.registry.state(key)
    except SessionNotFound:
        if not request.context.access.may(AUDIT):
            raise
    head = gateway.log.head(stream_of(key))
    if head is None or head.version == 0:
        raise SessionNotFound(key)
    return head


def state_at_place(
    gateway: Gateway, request: falcon.Request, key: str, place: str | None
) -> SessionState:
    """Return a session's state at a place, by default now. Raises what ``state_as_of`` does."""
    if place is None:
        return gateway.registry.state(key)
    return state_as_of(gateway.log, head_of(gateway, request, key), key, place)


def check_may_make(request: falcon.Request, key: str) -> None:
    """Refuse a key of a session to make. Raises Problem 400 or 403."""
    if not request.context.access.sees(checked_key(key)):
        prefix = request.context.access.key_prefix
        raise Problem(403, f"This token is for the sessions {prefix}… only.")


def check_sees(request: falcon.Request, key: str) -> None:
    """Refuse to look at another session. Raises Problem 400 or SessionNotFound."""
    if not request.context.access.sees(checked_key(key)):
        raise SessionNotFound(key)
