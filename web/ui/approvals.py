"""The tool calls that wait for somebody, in all sessions."""

from itertools import islice
from typing import Annotated, Literal

import falcon
import msgspec
from msgspec import UNSET, Meta, Struct

from actors.replay import STREAM_PREFIX
from actors.session import commands as c
from actors.session.summary import SessionSummary, ShownApproval
from web.asked import asked
from web.inputs import ApprovalBody
from web.operations import PROMPT, READ, Refusable, operation
from web.ui.bubbles import arguments_text
from web.ui.page import HTML, Page, is_htmx

SESSIONS_MAX = 1_000
ARGUMENTS_CHARACTERS_MAX = 4_000

_decode_summary = msgspec.json.Decoder(SessionSummary).decode


class AnswerForm(Refusable, frozen=True):
    """Whether the call may be made, and why not."""

    answer: Literal["approve", "deny"]
    reason: Annotated[str, Meta(max_length=1_000)] = ""


class Waiting(Struct, frozen=True):
    """A call that waits, and where."""

    key: str
    name: str
    call: ShownApproval
    arguments: str


class ApprovalsPage(Page):
    """GET /ui/approvals."""

    @operation(READ, {200: HTML})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show what waits, in the sessions that the token sees; to htmx the list alone."""
        self._gateway.record_access(request, "approvals")
        prefix = request.context.access.narrowed("")
        waiting = [] if prefix is None else self._waiting(prefix)
        template = "_approvals.html" if is_htmx(request) else "approvals.html"
        self.render(request, response, template, waiting=waiting, live=self.is_live)

    def _waiting(self, prefix: str) -> list[Waiting]:
        found = self._gateway.directory.newest(prefix=STREAM_PREFIX + prefix, active=True)
        summaries = [_decode_summary(each.body) for each in islice(found, SESSIONS_MAX)]
        waiting = [
            Waiting(each.session_key, each.name or "", call, _shown(call))
            for each in summaries
            if each.approvals is not UNSET
            for call in each.approvals
        ]
        return sorted(waiting, key=lambda each: each.call.requested_at)


class ApprovalPage(Page):
    """POST /ui/approvals/<key>/<approval>."""

    @operation(PROMPT, {303: None}, form=AnswerForm, errors=(404, 409))
    def on_post(
        self, request: falcon.Request, response: falcon.Response, key: str, approval_id: str
    ) -> None:
        """Approve or deny a call; the run goes on when none waits any more."""
        registry = self._gateway.registry
        registry.state(key)
        form: AnswerForm = request.context.form
        body = ApprovalBody(form.answer == "approve", form.reason)
        at = registry.now_ms()
        command = c.ResolveApproval(at, approval_id, body.approved, body.reason, **asked(request))
        registry.ask(key, command)
        self.go(request, response, f"approvals?done={'approved' if body.approved else 'denied'}")


def _shown(call: ShownApproval) -> str:
    text = arguments_text(call.args)
    if len(text) <= ARGUMENTS_CHARACTERS_MAX:
        return text
    return f"{text[:ARGUMENTS_CHARACTERS_MAX]}\n… ({len(text):,} characters; the session shows all)"
