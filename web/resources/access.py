"""Who read what: the records that the setting ``audit_reads`` makes."""

from collections.abc import Iterator
from typing import Annotated

import falcon
import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from actors.audit.access import CODEC, STREAM, AccessRead
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.native import give_way
from persistence.records import Head, StoredEvent
from web.errors import Problem
from web.inputs import Count
from web.operations import AUDIT, Refusable, operation
from web.raw_log import Seq
from web.resources.base import Resource
from web.schemas import body_of

PAGE_RECORDS_MAX = 1_000
SCANNED_RECORDS_MAX = 20_000
"""How many records a request looks at; the next request looks at the next ones."""

TURN_RECORDS = 500
RESOURCE = "audit.access"


class AccessQuery(Refusable, frozen=True):
    """Which records: of one session, of one principal, of a time in milliseconds.

    The oldest first, from ``after`` on; with ``newest`` the newest first, back from ``before``.
    """

    session: str | None = None
    principal: str | None = None
    since: Annotated[int, Meta(ge=0)] | None = msgspec.field(name="from", default=None)
    until: Annotated[int, Meta(ge=0)] | None = msgspec.field(name="to", default=None)
    after: Seq | None = None
    before: Count | None = None
    newest: bool = False
    limit: Count | None = None


class AccessRecord(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One read; where its payload is erased only ``seq`` and ``principal`` are left of it."""

    seq: int
    principal: str
    at: int | UnsetType = UNSET
    resource: str | UnsetType = UNSET
    session_key: str | UnsetType = UNSET
    query: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    token_id: str | UnsetType = UNSET
    address: str | UnsetType = UNSET
    agent: str | UnsetType = UNSET


class AccessRecords(Struct, frozen=True, omit_defaults=True):
    """A page of records; where there may be more, ``next`` is the ``after`` to go on with.

    With ``newest`` it is the ``before``.
    """

    records: list[AccessRecord]
    next: int | UnsetType = UNSET


class AccessResource(Resource):
    """GET /audit/access."""

    @operation(AUDIT, {200: AccessRecords}, query=AccessQuery)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of records; a page may be empty and yet not be the last."""
        if request.context.access.key_prefix:
            prefix = request.context.access.key_prefix
            raise Problem(403, f"This token is for the sessions {prefix}… only.")
        self._gateway.record_access(request, RESOURCE)
        head = self._gateway.log.head(STREAM)
        page = AccessRecords([]) if head is None else _page(self._gateway.log, head, request)
        response.data = body_of(page)


def _page(log: EventLog, head: Head, request: falcon.Request) -> AccessRecords:
    query: AccessQuery = request.context.query
    limit = min(query.limit or PAGE_RECORDS_MAX, PAGE_RECORDS_MAX)
    records: list[AccessRecord] = []
    count = 0
    for count, stored in enumerate(_read(log, head, query), 1):
        record = record_of(stored)
        if _passes(query, record):
            records.append(record)
        if len(records) == limit or count == SCANNED_RECORDS_MAX:
            return AccessRecords(records, stored.seq)
    return AccessRecords(records)


def _read(log: EventLog, head: Head, query: AccessQuery) -> Iterator[StoredEvent]:
    found = log.read(head, after=query.after or 0, before=query.before, newest_first=query.newest)
    for count, stored in enumerate(found):
        if count % TURN_RECORDS == 0:
            give_way()
        yield stored


def _passes(query: AccessQuery, record: AccessRecord) -> bool:
    at = -1 if record.at is UNSET else record.at
    return (
        (query.session is None or record.session_key == query.session)
        and (query.principal is None or record.principal == query.principal)
        and (query.since is None or at >= query.since)
        and (query.until is None or 0 <= at <= query.until)
    )


def record_of(stored: StoredEvent) -> AccessRecord:
    """Return a record as it is shown. Raises CorruptLogError."""
    principal = stored.principal or ""
    if stored.payload is None:
        return AccessRecord(stored.seq, principal)
    try:
        read = CODEC.decode(stored.type, stored.schema_version, stored.payload)
    except msgspec.MsgspecError as error:
        raise CorruptLogError(STREAM, stored.seq, str(error)) from error
    assert isinstance(read, AccessRead)
    asked = read.request
    return AccessRecord(
        stored.seq,
        principal,
        read.at,
        read.resource,
        read.session_key or UNSET,
        read.query or UNSET,
        *(
            [each or UNSET for each in (asked.id, asked.token, asked.address, asked.agent)]
            if asked
            else []
        ),
    )
