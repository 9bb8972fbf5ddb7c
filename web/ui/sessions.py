"""The list of sessions: live, searched, a page at a time out of very many."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Literal
from urllib.parse import urlencode

import falcon
import msgspec
from msgspec import UNSET, Meta, Struct
from msgspec.structs import asdict

from actors.replay import STREAM_PREFIX
from actors.session.summary import SessionSummary, with_model
from persistence.directory import Listed
from web.errors import Problem
from web.inputs import ChatPrompt, Count, IdempotencyHeaders
from web.keys import checked_key
from web.operations import PROMPT, READ, Refusable, operation
from web.prompts import PROMPT_ERRORS, queue_prompt
from web.ui.page import HTML, Page, is_htmx

PAGE_SESSIONS = 50
SCANNED_SESSIONS_MAX = 20_000
"""A search looks at so many sessions for a page, then offers to look further; where the database
does it (Directory.searches), at so many that may fit.
"""

YIELD_SESSIONS = 500
SOURCE = "chat"

Work = Literal["", "working", "idle"]
Order = Literal["", "age"]
ACTIVE: dict[Work, bool | None] = {"": None, "working": True, "idle": False}

_decode_summary = msgspec.json.Decoder(SessionSummary).decode


class ListQuery(Refusable, frozen=True):
    """Which sessions: keys that begin with ``prefix``, with ``q`` in key, name or last message.

    Those that were active lately come first, unless they are wanted by ``age``.
    """

    q: Annotated[str, Meta(max_length=200)] = ""
    prefix: str = ""
    work: Work = ""
    order: Order = ""
    before: Count | None = None
    done: str = ""

    @property
    def by_age(self) -> bool:
        """Tell whether only age counts: for pages and searches, which go through all sessions."""
        return bool(self.order or self.before or self.q.strip())


class PromptForm(Refusable, frozen=True):
    """A prompt for a session, which is made where there is none."""

    key: str
    text: str


class ListedSession(Struct, frozen=True):
    """A session as its row shows it."""

    key: str
    name: str
    preview: str
    state: str
    label: str
    queue: int
    messages: int
    model: str
    tokens_in: int
    tokens_out: int
    cost_usd: float
    last_active_at: int
    owner: str


class SessionPage(Struct, frozen=True):
    """A part of the list; ``further`` is the row before which there may be more by age."""

    sessions: list[ListedSession]
    further: int | None


class SessionsPage(Page):
    """GET and POST /ui/sessions."""

    @operation(READ, {200: HTML}, query=ListQuery)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show a page of sessions; to htmx its table alone."""
        self._gateway.record_access(request, "sessions")
        query: ListQuery = request.context.query
        prefix = request.context.access.narrowed(query.prefix)
        page = SessionPage([], None) if prefix is None else self._page(query, prefix)
        alive = {self._gateway.owner, *(each.name for each in self._gateway.directory.workers())}
        template = "_sessions.html" if is_htmx(request) else "sessions.html"
        self.render(
            request,
            response,
            template,
            page=page,
            alive=alive,
            query=query,
            here=_address(query, query.before),
            first=_address(query, None),
            further=_further(query, page),
            primary=self._gateway.settings.primary_session,
            live=self.is_live,
        )

    @operation(
        PROMPT, {303: None}, form=PromptForm, headers=IdempotencyHeaders, errors=PROMPT_ERRORS
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Queue a prompt, and show its session."""
        form: PromptForm = request.context.form
        key = checked_key(form.key.strip())
        if not request.context.access.sees(key):
            prefix = request.context.access.key_prefix
            raise Problem(403, f"This token is for the sessions {prefix}… only.")
        if not form.text.strip():
            raise Problem(422, "Write what to ask.")
        _, tail = queue_prompt(self._gateway, request, key, ChatPrompt(form.text), SOURCE)
        tail.close()
        self.go(request, response, f"sessions/{key}")

    def _page(self, query: ListQuery, prefix: str) -> SessionPage:
        directory = self._gateway.directory
        named, active, text = STREAM_PREFIX + prefix, ACTIVE[query.work], query.q.strip()
        if directory.searches(text):
            found = directory.search(text, prefix=named, before_row=query.before, active=active)
        else:
            found = directory.newest(prefix=named, before_row=query.before, active=active)
        if query.by_age:
            return page_of(found, text, self._shown)
        recent = directory.recent(prefix=named, limit=PAGE_SESSIONS, active=active)
        page = page_of(recent_first(recent, found), "", self._shown)
        return page if page.further is None else msgspec.structs.replace(page, further=0)

    def _shown(self, listed: Listed) -> ListedSession:
        resolve = self._gateway.registry.models.resolve
        return shown_session(with_model(_decode_summary(listed.body), resolve), listed.owner or "")


def recent_first(recent: Sequence[Listed], newest: Iterable[Listed]) -> Iterator[Listed]:
    """Yield the sessions that were active lately, then the others by age."""
    yield from recent
    rows = {each.row for each in recent}
    yield from (each for each in newest if each.row not in rows)


def page_of(
    found: Iterable[Listed], text: str, show: Callable[[Listed], ListedSession]
) -> SessionPage:
    """Return the first sessions that have a text, of all that are looked at."""
    wanted = text.strip().casefold()
    sessions: list[ListedSession] = []
    for count, listed in enumerate(found, 1):
        if count % YIELD_SESSIONS == 0:
            time.sleep(0)  # others have their turn meanwhile
        if not wanted or _may_have(listed, wanted):
            shown = show(listed)
            if not wanted or wanted in f"{shown.key}\n{shown.name}\n{shown.preview}".casefold():
                sessions.append(shown)
        if len(sessions) == PAGE_SESSIONS or count == SCANNED_SESSIONS_MAX:
            return SessionPage(sessions, listed.row)
    return SessionPage(sessions, None)


def shown_session(summary: SessionSummary, owner: str) -> ListedSession:
    """Return a session's row."""
    usage = None if summary.usage is UNSET else summary.usage.session
    state, label = _state(summary)
    return ListedSession(
        key=summary.session_key,
        name=summary.name or "",
        preview=summary.last_message_preview or "",
        state=state,
        label=label,
        queue=summary.queue_depth,
        messages=summary.message_count,
        model=f"{summary.model_provider}/{summary.model_id}",
        tokens_in=0 if usage is None else usage.input + usage.cache_read + usage.cache_write,
        tokens_out=0 if usage is None else usage.output,
        cost_usd=0.0 if usage is None else usage.cost_usd,
        last_active_at=summary.last_active_at,
        owner=owner,
    )


def _state(summary: SessionSummary) -> tuple[str, str]:
    if summary.approvals:
        return "waiting", "waits for approval"
    if summary.processing:
        return "running", "running"
    return ("waiting", "queued") if summary.queue_depth else ("idle", "idle")


def _may_have(listed: Listed, wanted: str) -> bool:
    """Tell whether a summary may have a text: much faster than to decode each."""
    return not wanted.isalnum() or wanted in listed.body.decode("utf-8", "replace").casefold()


def _address(query: ListQuery, before: int | None) -> str:
    asked = {name: value for name, value in asdict(query).items() if value and name != "done"}
    asked.pop("before", None)
    if before is not None:
        asked["before"] = before
    return f"sessions?{urlencode(asked)}" if asked else "sessions"


def _further(query: ListQuery, page: SessionPage) -> str | None:
    """Return where the list goes on; what was active lately is followed by all, by age."""
    if page.further is None:
        return None
    if page.further == 0:
        return _address(msgspec.structs.replace(query, order="age"), None)
    return _address(query, page.further)
