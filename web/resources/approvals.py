"""Tool calls that wait for somebody's approval."""

import falcon

from actors.session import commands as c
from actors.session.summary import shown_approvals
from web.asked import asked
from web.inputs import ApprovalBody
from web.operations import PROMPT, READ, operation
from web.resources.base import Resource
from web.resources.sessions import SessionCommands
from web.schemas import ApprovalAnswer, Approvals, body_of


class ApprovalsResource(Resource):
    """GET /sessions/K/approvals."""

    @operation(READ, {200: Approvals}, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the calls that wait, the oldest first."""
        state = self._gateway.registry.state(key)
        self._gateway.record_access(request, "approvals", key)
        response.data = body_of(Approvals(shown_approvals(state)))


class ApprovalResource(SessionCommands):
    """POST /sessions/K/approvals/ID."""

    @operation(PROMPT, {200: ApprovalAnswer}, body=ApprovalBody, errors=(404, 409))
    def on_post(
        self, request: falcon.Request, response: falcon.Response, key: str, approval_id: str
    ) -> None:
        """Approve or deny a call; the run goes on when none waits any more."""
        at = self._time_of_existing(key)
        body: ApprovalBody = request.context.body
        command = c.ResolveApproval(at, approval_id, body.approved, body.reason, **asked(request))
        self._gateway.registry.ask(key, command)
        response.data = body_of(
            ApprovalAnswer(ok=True, approval_id=approval_id, approved=body.approved)
        )
