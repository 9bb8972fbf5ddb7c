"""What can be done on a session's page: prompt, steer, abort, approve, deny, fork, rerun."""

import uuid
from typing import Annotated, Literal
from urllib.parse import quote

import falcon
from msgspec import Meta

from actors.audit.travel.forking import ask_again
from actors.audit.travel.places import state_as_of
from actors.session import commands as c
from actors.session.state import ModelRef
from web.asked import asked
from web.errors import Problem
from web.inputs import ChatPrompt, Count, IdempotencyHeaders
from web.operations import PROMPT, Refusable, operation
from web.past import head_of
from web.prompts import PROMPT_ERRORS, queue_prompt
from web.resources.time_travel import Making, RerunResource, rerun_key
from web.ui.page import is_htmx
from web.ui.session import SessionPage

Reason = Annotated[str, Meta(max_length=1_000)]


class PromptForm(Refusable, frozen=True):
    """What to say, and whether to the run in progress."""

    text: str = ""
    how: Literal["prompt", "steer"] = "prompt"


class AbortForm(Refusable, frozen=True):
    """Whether waiting prompts end too."""

    queue: str = ""


class ApprovalForm(Refusable, frozen=True):
    """Whether a call may be made; the model is told the reason of a denial."""

    approved: Literal["yes", "no"]
    reason: Reason = ""


class ForkForm(Refusable, frozen=True):
    """The key of the session to make, and as of which event."""

    into: str
    at: Count


class RerunForm(Refusable, frozen=True):
    """Which run to make again, and by which model, as provider/id."""

    run: str
    model: str


class SessionAction(SessionPage):
    """Something that is done to a session, after which its page is shown again."""

    def _done(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer the page's script with nothing, a browser without it with the page."""
        if is_htmx(request):
            response.status = falcon.HTTP_204
        else:
            self.go(request, response, f"sessions/{quote(key, safe='')}")

    def _ask(self, key: str, command: c.Command) -> None:
        self._gateway.registry.ask(key, command)

    def _now(self, key: str) -> int:
        """Return the time for a command to a session. Raises SessionNotFound."""
        self._gateway.registry.state(key)
        return self._gateway.registry.now_ms()


class PromptAction(SessionAction):
    """POST /ui/sessions/K/prompt."""

    @operation(
        PROMPT,
        {204: None, 303: None},
        form=PromptForm,
        headers=IdempotencyHeaders,
        errors=(*PROMPT_ERRORS, 404),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session, or say more to the run in progress."""
        form: PromptForm = request.context.form
        text = form.text.replace("\r\n", "\n").strip()
        if not text or "\x00" in text:
            raise Problem(422, "Write a prompt; it can't hold the character U+0000.")
        self._gateway.registry.state(key)
        kind = c.Steer if form.how == "steer" else c.QueuePrompt
        _, tail = queue_prompt(self._gateway, request, key, ChatPrompt(text), "ui", kind)
        tail.close()
        self._done(request, response, key)


class AbortAction(SessionAction):
    """POST /ui/sessions/K/abort."""

    @operation(PROMPT, {204: None, 303: None}, form=AbortForm, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """End the running prompt, and with ``queue`` the waiting ones too."""
        queue = bool(request.context.form.queue)
        self._ask(key, c.AbortRun(self._now(key), queue=queue, **asked(request)))
        self._done(request, response, key)


class ApprovalAction(SessionAction):
    """POST /ui/sessions/K/approvals/ID."""

    @operation(PROMPT, {204: None, 303: None}, form=ApprovalForm, errors=(404, 409))
    def on_post(
        self, request: falcon.Request, response: falcon.Response, key: str, approval_id: str
    ) -> None:
        """Approve or deny a call; the run goes on when none waits any more."""
        form: ApprovalForm = request.context.form
        if "\x00" in form.reason:
            raise Problem(422, "A reason can't hold the character U+0000.")
        yes = form.approved == "yes"
        at = self._now(key)
        self._ask(key, c.ResolveApproval(at, approval_id, yes, form.reason, **asked(request)))
        self._done(request, response, key)


class ForkAction(SessionAction, Making):
    """POST /ui/sessions/K/fork."""

    @operation(PROMPT, {303: None}, form=ForkForm, errors=(404, 409, 412))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Make a session of this one as it was at an event, and show it."""
        form: ForkForm = request.context.form
        head = head_of(self._gateway, request, key)
        state = state_as_of(self._gateway.log, head, key, str(form.at))
        self._fork(request, head, state, form.into.strip(), None)
        self.go(request, response, f"sessions/{quote(form.into.strip(), safe='')}")


class RerunAction(SessionAction, RerunResource):
    """POST /ui/sessions/K/rerun."""

    @operation(
        PROMPT,
        {303: None},
        form=RerunForm,
        errors=(*PROMPT_ERRORS, 404, 409),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:  # type: ignore[override]
        """Ask a run's prompt again in a fork, of another model, and show both beside each other."""
        form: RerunForm = request.context.form
        head = head_of(self._gateway, request, key)
        seq, prompt = self._before_run(head, key, form.run)
        into = rerun_key(key, uuid.uuid4().hex)
        state = state_as_of(self._gateway.log, head, key, str(seq))
        provider, _, model_id = form.model.partition("/")
        self._fork(request, head, state, into, ModelRef(provider, model_id))
        ask_again(
            self._gateway.registry,
            into,
            prompt,
            str(uuid.uuid4()),
            self._gateway.settings.queue_max,
            asked(request),
        )
        mine, theirs = quote(key, safe=""), quote(into, safe="")
        self.go(request, response, f"sessions/{mine}/compare?other={theirs}")
