"""Two sessions side by side, and a session's runs."""

import falcon
from msgspec import Struct

from actors.audit.travel.diffing import Side, parting
from actors.audit.travel.places import event_at
from actors.audit.travel.run_list import OUTCOMES, newest_runs
from actors.errors import SessionNotFound
from actors.replay import unhurried
from actors.session.events import RunStarted
from actors.session.state import SessionState
from web.errors import Problem
from web.inputs import Count
from web.operations import PROMPT, READ, Refusable, operation
from web.past import check_sees
from web.ui.bubbles import Bubble
from web.ui.comparing import Pair, pairs
from web.ui.looking import messages_after
from web.ui.page import HTML, frame_of, is_htmx
from web.ui.session import SessionPage

SHOWN_MESSAGES = 50
SHOWN_RUNS = 20


class CompareQuery(Refusable, frozen=True):
    """Which other session, or which two runs of this one by the seqs where they began.

    The runs that are listed began before a seq.
    """

    other: str | None = None
    run: Count | None = None
    beside: Count | None = None
    before: Count | None = None


class Sides(Struct, frozen=True):
    """Two sessions from where they part, or two runs; ``said`` tells what they have in common.

    While either ``goes_on`` they are asked for again.
    """

    mine: str
    mine_url: str
    theirs: str
    theirs_url: str
    said: str
    pairs: list[Pair]
    more: bool
    goes_on: bool


class ComparePage(SessionPage):
    """GET /ui/sessions/K/compare."""

    @operation(READ, {200: HTML}, query=CompareQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Show the session beside another one, and its runs."""
        query: CompareQuery = request.context.query
        frame = frame_of(request)
        state = self._gateway.registry.state(key)
        self._gateway.record_access(request, "runs", key)
        sides, failure = None, ""
        try:
            if query.other is not None:
                sides = self._sides(request, state, query.other)
            elif query.run is not None and query.beside is not None:
                sides = self._runs(request, state, query.run, query.beside)
        except (SessionNotFound, Problem) as error:
            failure = str(error)
        url = self._url(frame, key)
        shown = {"sides": sides, "session_url": url, "asked": request.query_string}
        if is_htmx(request):
            self.render(request, response, "_sides.html", **shown)
            return
        runs, more = newest_runs(
            self._gateway.log, self._head(key), state, before=query.before, limit=SHOWN_RUNS
        )
        self.render(
            request,
            response,
            "compare.html",
            key=key,
            state=state,
            **shown,
            other=query.other or "",
            failure=failure,
            runs=runs,
            more_runs=more,
            models=self._models(request),
        )

    def _models(self, request: falcon.Request) -> list[str]:
        if not request.context.access.may(PROMPT):
            return []
        listed = self._gateway.registry.models.listed()
        return [f"{each.provider}/{each.model_id}" for each in listed]

    def _sides(self, request: falcon.Request, mine: SessionState, other: str) -> Sides:
        check_sees(request, other)
        log = self._gateway.log
        theirs = self._gateway.registry.state(other)
        self._gateway.record_access(request, "diff", mine.key)
        self._gateway.record_access(request, "diff", other)
        parted = parting(log, Side(self._head(mine.key), mine), Side(self._head(other), theirs))
        ours, more = messages_after(log, mine, parted.mine_after, SHOWN_MESSAGES)
        others, their_more = messages_after(log, theirs, parted.theirs_after, SHOWN_MESSAGES)
        said = f"{parted.common} messages in common from the first on."
        if parted.fork is not None:
            fork = parted.fork
            said = f"Forked from {fork.source_key} at event {fork.source_seq}. {said}"
        frame = frame_of(request)
        both = pairs(ours, others)
        return Sides(
            mine.key,
            self._url(frame, mine.key),
            other,
            self._url(frame, other),
            said,
            both,
            more or their_more,
            self.is_live and not (mine.idle and theirs.idle),
        )

    def _runs(self, request: falcon.Request, state: SessionState, first: int, second: int) -> Sides:
        url = self._url(frame_of(request), state.key)
        mine, more = self._messages_of_run(state, first)
        theirs, their_more = self._messages_of_run(state, second)
        return Sides(
            f"The run at event {first}",
            f"{url}?at={first}",
            f"The run at event {second}",
            f"{url}?at={second}",
            "",
            pairs(mine, theirs),
            more or their_more,
            self.is_live and not state.idle,
        )

    def _messages_of_run(self, state: SessionState, started: int) -> tuple[list[Bubble], bool]:
        """Return the first messages of the run that began at a seq. Raises Problem 404."""
        log, head = self._gateway.log, self._head(state.key)
        if started > head.version or event_at(log, head, started).type != RunStarted.wire_name:
            raise Problem(404, f"No run began at event {started}.")
        end = state.version
        for stored in unhurried(log.read(head, after=started)):
            if stored.type in OUTCOMES:
                end = stored.seq
                break
        return messages_after(log, state, started, SHOWN_MESSAGES, end)
