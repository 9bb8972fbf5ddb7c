"""Prompts on their way into a session, and the answer to those who wait."""

import contextlib
import uuid

import falcon

from actors.feed import FeedClosedError
from actors.session import commands as c
from actors.tail import Tail
from web.asked import asked
from web.bootstrap import Gateway
from web.errors import RETRY_AFTER_S, Problem, problem_of
from web.inputs import ChatPrompt
from web.outcome import Outcome
from web.requests import with_idempotency_key
from web.schemas import Enqueued, PromptResult, body_of
from web.streams import StreamSlot

PROMPT_ERRORS = (422, 429)
"""How a prompt can be refused."""

APPROVAL_NEEDED = "The run waits for approval of a tool call."
STOPPED = "The gateway stopped before the prompt's run ended; its events are in the log."


def queue_prompt(
    gateway: Gateway,
    request: falcon.Request,
    key: str,
    prompt: ChatPrompt,
    source: str,
    kind: type[c.QueuePrompt] = c.QueuePrompt,
) -> tuple[str, Tail]:
    """Queue a prompt, durably; return its id and a tail that has its events before it."""
    registry = gateway.registry
    identified = with_idempotency_key(request, prompt)
    command = kind(
        at=registry.now_ms(),
        session_id=str(uuid.uuid4()),
        prompt_id=str(uuid.uuid4()),
        text=identified.text,
        source=source,
        queue_max=gateway.settings.queue_max,
        message_id=identified.message_id,
        idempotency_key=identified.idempotency_key,
        metadata=identified.metadata,
        images=identified.images,
        **asked(request),
    )
    prompt_id, reader = registry.prompt(key, command)
    return prompt_id, Tail(gateway.log, key, reader)


def answer_when_done(
    gateway: Gateway,
    request: falcon.Request,
    response: falcon.Response,
    key: str,
    prompt: ChatPrompt,
    source: str,
) -> None:
    """Queue a prompt and answer with its result, 202 where its run waits for approvals.

    Raises Problem when the run did not complete.
    """
    with StreamSlot(gateway):
        try:
            prompt_id, tail = queue_prompt(gateway, request, key, prompt, source)
        except Exception as error:
            raise _as_result(problem_of(error), key) from error
        outcome = _outcome(gateway, tail, prompt_id)
    if outcome.approvals:
        needed = Enqueued(
            ok=False,
            queued=False,
            response=outcome.response,
            error=APPROVAL_NEEDED,
            session_key=key,
            prompt_id=prompt_id,
            approvals=outcome.approvals,
        )
        response.status = falcon.HTTP_202
        response.data = body_of(needed)
        return
    if outcome.error is not None:
        status = outcome.status or 503
        headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else {}
        problem = Problem(status, outcome.error, headers=headers)
        raise _as_result(problem, key, outcome.response)
    response.data = body_of(PromptResult(ok=True, response=outcome.response, session_key=key))


def answer_at_once(
    gateway: Gateway,
    request: falcon.Request,
    response: falcon.Response,
    key: str,
    prompt: ChatPrompt,
    source: str,
) -> None:
    """Queue a prompt and answer 202 with its id."""
    prompt_id, tail = queue_prompt(gateway, request, key, prompt, source)
    tail.close()
    response.status = falcon.HTTP_202
    response.data = body_of(Enqueued(ok=True, queued=True, session_key=key, prompt_id=prompt_id))


def _outcome(gateway: Gateway, tail: Tail, prompt_id: str) -> Outcome:
    outcome = Outcome(prompt_id)
    with contextlib.closing(tail):
        while outcome.status is None:
            try:
                batch = tail.next(gateway.settings.heartbeat_s)
                for committed in batch:
                    outcome.follow(committed.event)
                if batch:
                    outcome.settle(batch[-1].state)
            except FeedClosedError:
                outcome.status, outcome.error = 503, STOPPED
    return outcome


def _as_result(problem: Problem, key: str, response: str = "") -> Problem:
    """Make a problem readable to clients that expect a prompt's result."""
    result = {"ok": False, "response": response, "error": problem.detail, "sessionKey": key}
    return Problem(problem.status, problem.detail, headers=problem.headers, extra=result)
