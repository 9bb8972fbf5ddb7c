"""What changed, where sessions part, sessions made of others, and runs made again."""

import uuid
from typing import Any

import falcon
import msgspec
from msgspec import UNSET

from actors.audit.travel.diffing import Side, happened, parting
from actors.audit.travel.forking import Forked, ask_again, fork
from actors.audit.travel.places import place_of, seq_at, state_as_of
from actors.audit.travel.run_list import RunEntry, find_run, newest_runs, prompt_of
from actors.replay import state_at
from actors.session.events import PromptQueued
from actors.session.record_events import SessionForked
from actors.session.state import ModelRef, SessionState
from actors.session.summary import SessionSummary, shown_usage, summary_of, with_model
from persistence.records import Head
from web.asked import asked
from web.errors import Problem
from web.inputs import HistoryQuery
from web.keys import KEY_CHARACTERS_MAX
from web.operations import PROMPT, READ, operation
from web.past import (
    RUNS,
    RUNS_MAX,
    Change,
    Changes,
    Comparison,
    DiffAnswer,
    DiffQuery,
    ForkAnswer,
    ForkBody,
    Origin,
    RerunAnswer,
    RerunBody,
    RunList,
    RunShown,
    RunsQuery,
    SideShown,
    check_may_make,
    check_sees,
    head_of,
    state_at_place,
)
from web.prompts import PROMPT_ERRORS
from web.resources.base import Resource
from web.resources.history import messages_of
from web.schemas import HistoryMessage, ModelChoice, body_of

RERUN_MARK = "+rerun-"
RERUN_DIGITS = 8


class DiffResource(Resource):
    """GET /sessions/K/diff."""

    @operation(READ, {200: DiffAnswer}, query=DiffQuery, errors=(404, 412))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with what changed from one place to another, or how ``other`` differs."""
        query: DiffQuery = request.context.query
        if query.other is None:
            answer = DiffAnswer(key, changes=self._changes(request, key, query))
        else:
            check_sees(request, query.other)
            answer = DiffAnswer(key, comparison=self._comparison(request, key, query))
        self._gateway.record_access(request, "diff", key)
        if query.other is not None:
            self._gateway.record_access(request, "diff", query.other)
        response.data = body_of(answer)

    def _changes(self, request: falcon.Request, key: str, query: DiffQuery) -> Changes:
        log = self._gateway.log
        head = head_of(self._gateway, request, key)
        assert query.start is not None
        start = seq_at(log, head, place_of(query.start))
        end = head.version if query.to is None else seq_at(log, head, place_of(query.to))
        if start > end:
            raise Problem(400, f"from is the seq {start}, after to, which is {end}.")
        before, after = state_at(log, head, start), state_at(log, head, end)
        found = happened(log, head, before, after)
        messages, more = self._shown(after, start, query.messages)
        return Changes(
            start, end, found.events, _changed(before, after), shown_usage(found.usage),
            found.gone, messages, more,
        )  # fmt: skip

    def _comparison(self, request: falcon.Request, key: str, query: DiffQuery) -> Comparison:
        assert query.other is not None
        log = self._gateway.log
        mine = Side(
            head_of(self._gateway, request, key),
            state_at_place(self._gateway, request, key, query.to),
        )
        theirs = Side(
            head_of(self._gateway, request, query.other),
            self._gateway.registry.state(query.other),
        )
        parted = parting(log, mine, theirs)
        return Comparison(
            parted.common,
            self._side(mine.state, parted.mine_after, query.messages),
            self._side(theirs.state, parted.theirs_after, query.messages),
            UNSET if parted.fork is None else _origin(parted.fork),
        )

    def _side(self, state: SessionState, after: int, limit: int) -> SideShown:
        messages, more = self._shown(state, after, limit)
        return SideShown(self._summary(state), state.version, after, messages, more)

    def _summary(self, state: SessionState) -> SessionSummary:
        return with_model(summary_of(state), self._gateway.registry.models.resolve)

    def _shown(
        self, state: SessionState, after: int, limit: int
    ) -> tuple[list[HistoryMessage], bool]:
        """Return the messages that follow a seq, and whether there are more of them."""
        found = messages_of(self._gateway, state, HistoryQuery(limit=limit + 1, after=str(after)))
        return found[:limit], len(found) > limit


class RunsResource(Resource):
    """GET /sessions/K/runs."""

    @operation(READ, {200: RunList}, query=RunsQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the session's runs, the newest first."""
        query: RunsQuery = request.context.query
        state = self._gateway.registry.state(key)
        self._gateway.record_access(request, "runs", key)
        head = head_of(self._gateway, request, key)
        limit = min(query.limit or RUNS, RUNS_MAX)
        runs, more = newest_runs(self._gateway.log, head, state, before=query.before, limit=limit)
        shown = [_shown_run(each) for each in runs]
        response.data = body_of(RunList(shown, UNSET if more is None else more))


class Making(Resource):
    """What resources share that make a session of another one."""

    def _fork(
        self,
        request: falcon.Request,
        head: Head,
        state: SessionState,
        into: str,
        model: ModelRef | None,
    ) -> Forked:
        check_may_make(request, into)
        if model is not None and not self._gateway.registry.models.has(model):
            raise Problem(404, f"Model not found: {model.provider}/{model.model_id}")
        registry = self._gateway.registry
        return fork(registry, head, state, into, model, str(uuid.uuid4()), asked(request))


class ForkResource(Making):
    """POST /sessions/K/fork."""

    @operation(PROMPT, {200: ForkAnswer, 201: ForkAnswer}, body=ForkBody, errors=(404, 409, 412))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Make a session of this one as it was ``at`` a place, by default as it is."""
        body: ForkBody = request.context.body
        head = head_of(self._gateway, request, key)
        place = head.version if body.at is None else body.at
        state = state_as_of(self._gateway.log, head, key, str(place))
        made = self._fork(request, head, state, body.key, _model_of(body))
        summary = summary_of(self._gateway.registry.state(body.key))
        response.status = falcon.HTTP_201 if made.made else falcon.HTTP_200
        response.data = body_of(
            ForkAnswer(
                ok=True,
                made=made.made,
                session=with_model(summary, self._gateway.registry.models.resolve),
                forked_from=Origin(key, made.source.session_id, made.source.seq, made.source.hash),
            )
        )


class RerunResource(Making):
    """POST /sessions/K/runs/R/rerun."""

    @operation(
        PROMPT,
        {202: RerunAnswer},
        body=RerunBody,
        errors=(*PROMPT_ERRORS, 404, 409),
    )
    def on_post(
        self, request: falcon.Request, response: falcon.Response, key: str, run_id: str
    ) -> None:
        """Ask a run's prompt again in a fork from just before it, of another model."""
        body: RerunBody = request.context.body
        head = head_of(self._gateway, request, key)
        seq, prompt = self._before_run(head, key, run_id)
        into = body.key or rerun_key(key, uuid.uuid4().hex)
        state = state_as_of(self._gateway.log, head, key, str(seq))
        self._fork(request, head, state, into, ModelRef(body.provider, body.model_id))
        prompt_id = ask_again(
            self._gateway.registry,
            into,
            prompt,
            str(uuid.uuid4()),
            self._gateway.settings.queue_max,
            asked(request),
        )
        response.status = falcon.HTTP_202
        response.data = body_of(
            RerunAnswer(ok=True, session_key=into, prompt_id=prompt_id, forked_at=seq)
        )

    def _before_run(self, head: Head, key: str, run_id: str) -> tuple[int, PromptQueued]:
        """Return the seq just before a run, and its prompt."""
        started = find_run(self._gateway.log, head, run_id)
        if started is None:
            raise Problem(404, f"There is no run {run_id!r} in session {key}.")
        prompt = prompt_of(self._gateway.log, head, started)
        if prompt is None:
            raise Problem(409, f"The prompt of the run {run_id!r} is erased.")
        return started.seq - 1, prompt


def rerun_key(key: str, digits: str) -> str:
    """Return the key of a session where a run of another one is made again."""
    mark = RERUN_MARK + digits[:RERUN_DIGITS]
    return key[: KEY_CHARACTERS_MAX - len(mark)] + mark


def _model_of(body: ForkBody) -> ModelRef | None:
    if body.provider is body.model_id is None:
        return None
    provider, model_id = (
        each if isinstance(each, str) else "" for each in (body.provider, body.model_id)
    )
    return ModelRef(provider, model_id)


def _origin(fork_: SessionForked) -> Origin:
    return Origin(fork_.source_key, fork_.source_session_id, fork_.source_seq, fork_.source_hash)


def _changed(before: SessionState, after: SessionState) -> dict[str, Change]:
    """Return the fields of a session's summary that differ."""
    old, new = _fields(before), _fields(after)
    return {
        name: Change(old.get(name), new.get(name))
        for name in [*new, *(set(old) - set(new))]
        if old.get(name) != new.get(name)
    }


def _fields(state: SessionState) -> dict[str, Any]:
    if not state.exists:
        return {}
    fields: dict[str, Any] = msgspec.to_builtins(summary_of(state))
    return {name: value for name, value in fields.items() if name not in ("sessionKey", "usage")}


def _shown_run(run: RunEntry) -> RunShown:
    model = run.model
    return RunShown(
        run.id,
        run.outcome,
        run.started_seq,
        run.started_at,
        shown_usage(run.usage),
        UNSET if run.ended_seq is None else run.ended_seq,
        UNSET if run.ended_at is None else run.ended_at,
        UNSET if run.prompt is None else run.prompt,
        run.error or UNSET,
        UNSET if model is None else ModelChoice(model.provider, model.model_id),
    )
