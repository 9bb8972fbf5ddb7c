"""Whether a session's log is what was appended."""

import falcon
from msgspec import Struct

from actors.audit.signing.notes import parse_verifier_key
from actors.audit.verifying.vouching import Verified, verify_vouched
from actors.errors import SessionNotFound
from actors.replay import stream_of
from persistence.native import give_way
from web.bootstrap import Gateway
from web.errors import RETRY_AFTER_S, Problem
from web.operations import AUDIT, Refusable, operation
from web.resources.base import Resource
from web.schemas import body_of
from web.slots import Slots

AT_ONCE_MAX = 2
"""Verifications that a process does at once: each reads a whole stream."""

CHUNK_EVENTS = 500
"""After so many events others get their turn."""

RESOURCE = "verify"


class VerifyQuery(Refusable, frozen=True, rename="camel"):
    """With ``fromCheckpoint`` only what follows the latest signed checkpoint is read."""

    from_checkpoint: bool = False


class VerifiedHead(Struct, frozen=True):
    """The last sound event, and its hash in hexadecimal."""

    seq: int
    hash: str


class VouchedFor(Struct, frozen=True):
    """Up to which event the latest checkpoint vouches for the session."""

    seq: int
    size: int
    root: str
    origin: str


class LogProblem(Struct, frozen=True):
    """What is wrong, and at which event."""

    seq: int
    problem: str


class Verification(Struct, frozen=True, rename="camel"):
    """What was found: ``events`` were read after ``since``, ``erased`` of them have no payload."""

    ok: bool
    session_key: str
    events: int
    since: int
    head: VerifiedHead
    erased: int
    checkpoint: VouchedFor | None
    problems: list[LogProblem]


class Verifying(Resource):
    """What resources share that verify a session's log: few do at a time."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._slots = Slots(AT_ONCE_MAX)

    def _verified(self, stream_id: str, query: VerifyQuery) -> Verified | None:
        gateway = self._gateway
        keys = [parse_verifier_key(each.verifier_key) for each in gateway.admin.signing_keys]
        with gateway.raw_rows() as raw:
            return verify_vouched(
                raw,
                gateway.checkpoints,
                keys,
                stream_id,
                from_checkpoint=query.from_checkpoint,
                pause=give_way,
                chunk_rows=CHUNK_EVENTS,
            )


class VerifyResource(Verifying):
    """GET /sessions/K/audit/verify."""

    @operation(AUDIT, {200: Verification}, query=VerifyQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Verify the session's log, a deleted session's too; damage that is found is an answer."""
        head = self._gateway.log.head(stream_of(key))
        if head is None or not head.version:
            raise SessionNotFound(key)
        if not self._slots.acquire():
            raise Problem(
                503,
                "Enough logs are being verified; try again.",
                headers={"Retry-After": RETRY_AFTER_S},
            )
        try:
            self._gateway.record_access(request, RESOURCE, key)
            verified = self._verified(stream_of(key), request.context.query)
        finally:
            self._slots.release()
        if verified is None:
            raise SessionNotFound(key)
        response.data = body_of(_shown(key, verified))


def _shown(key: str, verified: Verified) -> Verification:
    report, vouched = verified.report, verified.vouched
    return Verification(
        ok=report.ok,
        session_key=key,
        events=report.events,
        since=report.since,
        head=VerifiedHead(report.seq, report.hash.hex()),
        erased=report.erased,
        checkpoint=None
        if vouched is None
        else VouchedFor(vouched.seq, vouched.size, vouched.root.hex(), vouched.origin),
        problems=[LogProblem(each.seq, each.problem) for each in report.findings],
    )
