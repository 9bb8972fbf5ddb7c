"""Prompts, tokens and cost over time, out of the log of all processes."""

import threading
import time

import falcon
from msgspec import Struct

from actors.replay import STREAM_PREFIX, decode
from actors.session.events import PromptQueued, RunCompleted, RunFailed, TurnEnded
from persistence.event_log import EventLog
from persistence.records import Cursor, TailedEvent
from web.bootstrap import Gateway
from web.operations import READ, Refusable, operation
from web.resources.checkpoints import refuse_bound
from web.ui.page import HTML, Page
from web.ui.plots import Plot, Series, bars

TYPES = tuple(each.wire_name for each in (PromptQueued, RunCompleted, RunFailed, TurnEnded))
MINUTE_US = 60_000_000
KEPT_MINUTES = 24 * 60
LOOK_BACK = 50_000
"""So many events, or transactions, before the first look are read."""

BATCH_EVENTS = 500
BATCHES_MAX = 40
"""What a look reads at most; the next one goes on from there."""

SPANS = {"hour": (60, 1), "day": (48, 30)}
"""How many bars there are, and of how many minutes each."""


class Minute:
    """What happened in one minute."""

    __slots__ = ("completed", "cost_usd", "failed", "prompts", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.prompts = self.completed = self.failed = 0
        self.tokens_in = self.tokens_out = 0
        self.cost_usd = 0.0


class UsageHistory:
    """Adds up, by the minute, what follows in the log; keeps a day of it.

    A process begins with the newest LOOK_BACK events, and reads on whenever somebody looks.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._cursor: Cursor | None = None
        self._minutes: dict[int, Minute] = {}
        self._lock = threading.Lock()

    def look(self) -> bool:
        """Read on; tell whether that is all there is by now. Raises StoreUnavailableError."""
        with self._lock:
            if self._cursor is None:
                self._cursor = _before(self._log.end())
            for _ in range(BATCHES_MAX):
                found = self._log.tail(self._cursor, types=TYPES, limit=BATCH_EVENTS)
                for each in found:
                    self._add(each)
                    self._cursor = each.cursor
                if len(found) < BATCH_EVENTS:
                    return True
                time.sleep(0)  # others have their turn meanwhile
            return False

    def sums(self, now_us: int, spans: int, minutes: int) -> list[Minute]:
        """Return what happened in so many spans of so many minutes, the last of them now."""
        newest = now_us // MINUTE_US
        with self._lock:
            for old in [each for each in self._minutes if each <= newest - KEPT_MINUTES]:
                del self._minutes[old]
            sums = [Minute() for _ in range(spans)]
            for minute, found in self._minutes.items():
                back = (newest - minute) // minutes
                if 0 <= back < spans:
                    _add_up(sums[spans - 1 - back], found)
        return sums

    def _add(self, tailed: TailedEvent) -> None:
        stored = tailed.event
        if stored.payload is None or not tailed.stream_id.startswith(STREAM_PREFIX):
            return
        minute = self._minutes.setdefault(stored.recorded_at // MINUTE_US, Minute())
        match decode(tailed.stream_id, stored):
            case PromptQueued():
                minute.prompts += 1
            case RunCompleted():
                minute.completed += 1
            case RunFailed():
                minute.failed += 1
            case TurnEnded(usage=usage):
                minute.tokens_in += usage.input + usage.cache_read + usage.cache_write
                minute.tokens_out += usage.output
                minute.cost_usd += usage.cost_usd


class UsageQuery(Refusable, frozen=True):
    """The last hour by the minute, or the last day by the half hour."""

    span: str = "hour"


class Totals(Struct, frozen=True):
    """What a span adds up to."""

    prompts: int
    completed: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


class UsagePage(Page):
    """GET /ui/usage."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._history = UsageHistory(gateway.log)

    @operation(READ, {200: HTML}, query=UsageQuery)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show plots; for tokens that see all sessions."""
        refuse_bound(request)
        span = request.context.query.span
        count, minutes = SPANS.get(span, SPANS["hour"])
        history = self._history
        is_whole = history.look()
        now_us = self._gateway.registry.now_ms() * 1_000
        sums = history.sums(now_us, count, minutes)
        ends = [now_us // 1_000 - (count - 1 - index) * minutes * 60_000 for index in range(count)]
        self.render(
            request,
            response,
            "usage.html",
            span=span if span in SPANS else "hour",
            minutes=minutes,
            is_whole=is_whole,
            totals=_totals(sums),
            plots=_plots(sums, ends),
            rows=list(zip(ends, sums, strict=True))[::-1],
        )


def _plots(sums: list[Minute], ends: list[int]) -> list[Plot]:
    return [
        bars(
            "Runs",
            [
                Series("completed", "", [each.completed for each in sums]),
                Series("failed", "failed", [each.failed for each in sums]),
            ],
            ends,
        ),
        bars(
            "Tokens",
            [
                Series("in", "", [each.tokens_in for each in sums]),
                Series("out", "second", [each.tokens_out for each in sums]),
            ],
            ends,
        ),
        bars("Cost in USD", [Series("cost", "", [each.cost_usd for each in sums])], ends),
    ]


def _totals(sums: list[Minute]) -> Totals:
    whole = Minute()
    for each in sums:
        _add_up(whole, each)
    return Totals(
        whole.prompts,
        whole.completed,
        whole.failed,
        whole.tokens_in,
        whole.tokens_out,
        whole.cost_usd,
    )


def _add_up(whole: Minute, part: Minute) -> None:
    for name in Minute.__slots__:
        setattr(whole, name, getattr(whole, name) + getattr(part, name))


def _before(end: Cursor) -> Cursor:
    if end.transaction:
        return Cursor(max(0, end.transaction - LOOK_BACK), 0)
    return Cursor(0, max(0, end.position - LOOK_BACK))
