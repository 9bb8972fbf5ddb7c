"""What may be erased of a session, what must not, and what was."""

from typing import Annotated

import falcon
from msgspec import UNSET, Meta, Struct, UnsetType

from actors.audit.erasing.eraser import Asker, Receipt
from actors.audit.erasing.survey import past_of, read
from actors.errors import SessionNotFound
from actors.replay import stream_of
from actors.session import commands as c
from actors.session.record_events import PastErasure, StreamErased
from web.asked import asked, request_of
from web.errors import Problem
from web.operations import ADMIN, AUDIT, Refusable, operation
from web.resources.base import Resource
from web.schemas import Ok, body_of
from web.streams import StreamSlot

REASON_CHARACTERS_MAX = 1_000

Reason = Annotated[str, Meta(min_length=1, max_length=REASON_CHARACTERS_MAX)]
Seq = Annotated[int, Meta(ge=1, le=10**18 - 1)]

WHAT = 'Say what to erase: {"all": true}, or {"range": [first, last]} by the seqs of events.'


class EraseBody(Refusable, frozen=True):
    """Why something is erased, and what: all of the session, or a range of its events."""

    reason: Reason
    range: tuple[Seq, Seq] | None = None
    all: bool = False


class HoldBody(Refusable, frozen=True):
    """Why nothing of the session may be erased."""

    reason: Reason


class ErasedAnswer(Struct, frozen=True):
    """What an erasure did."""

    ok: bool
    receipt: Receipt


class PastReceipt(Struct, frozen=True, rename="camel"):
    """What the log says of an erasure; one that a later one took in has no principal or hash."""

    receipt_id: str
    reason: str
    at: int
    ranges: tuple[tuple[int, int], ...]
    seq: int
    principal: str | UnsetType = UNSET
    hash: str | UnsetType = UNSET


class Erasures(Struct, frozen=True):
    """All erasures of a session, the oldest first."""

    erasures: list[PastReceipt]


class EraseResource(Resource):
    """POST /sessions/K/erase."""

    @operation(ADMIN, {200: ErasedAnswer}, body=EraseBody, errors=(404, 409, 422))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Erase what was said, for good; the log goes on to prove the rest, and that it was."""
        body: EraseBody = request.context.body
        asker = Asker(body.reason, request.context.access.principal, request_of(request))
        eraser = self._gateway.eraser
        with StreamSlot(self._gateway):
            if body.range is None:
                if not body.all:
                    raise Problem(422, WHAT)
                receipt = eraser.erase_session(key, asker)
            else:
                receipt = eraser.erase_part(key, self._range(key, body), asker)
        response.data = body_of(ErasedAnswer(ok=True, receipt=receipt))

    def _range(self, key: str, body: EraseBody) -> tuple[int, int]:
        assert body.range is not None
        if body.all or body.range[0] > body.range[1]:
            raise Problem(422, WHAT)
        version = self._gateway.registry.state(key).version
        if body.range[0] > version:
            raise Problem(422, f"The session's last event is {version}.")
        return body.range


class HoldResource(Resource):
    """POST and DELETE /sessions/K/hold."""

    @operation(ADMIN, {200: Ok}, body=HoldBody, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Have nothing of the session erased, by anybody and by no age, until it is released."""
        at = self._time_of_known(key)
        command = c.HoldSession(at, request.context.body.reason, **asked(request))
        self._gateway.registry.ask(key, command)
        response.data = body_of(Ok(ok=True))

    @operation(ADMIN, {200: Ok}, errors=(404,))
    def on_delete(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Release the session: ``ok`` tells whether it was on hold."""
        command = c.ReleaseSession(self._time_of_known(key), **asked(request))
        response.data = body_of(Ok(ok=self._gateway.registry.ask(key, command) > 0))

    def _time_of_known(self, key: str) -> int:
        """Return the time for a command to a session that is in the log, deleted or not."""
        if self._gateway.log.head(stream_of(key)) is None:
            raise SessionNotFound(key)
        return self._gateway.registry.now_ms()


class ErasuresResource(Resource):
    """GET /sessions/K/audit/erasures."""

    @operation(AUDIT, {200: Erasures}, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with what the log says was erased of the session, by whom and why."""
        head = self._gateway.log.head(stream_of(key))
        if head is None:
            raise SessionNotFound(key)
        self._gateway.record_access(request, "audit.erasures", key)
        found: list[PastReceipt] = []
        for stored, event in read(self._gateway.log, head):
            if isinstance(event, StreamErased):
                found = [_shown(each) for each in event.earlier]
                found.append(
                    _shown(past_of(stored.seq, event), stored.principal, stored.hash.hex())
                )
        response.data = body_of(Erasures(found))


def _shown(past: PastErasure, principal: str | None = None, link: str | None = None) -> PastReceipt:
    return PastReceipt(
        past.receipt_id,
        past.reason,
        past.at,
        past.ranges,
        past.seq,
        principal or UNSET,
        link or UNSET,
    )
