"""What is remembered: looked at, searched, added to and forgotten."""

import falcon

from actors.errors import SessionNotFound
from actors.memory.identity import Identity
from actors.memory.rules import SECRET, Forget, Remember, key_of, one_line
from persistence.memories import Hit, MemoryHit
from persistence.records import MemoryRow
from web.asked import asked
from web.inputs import ForgetBody, MemoryQuery, MemorySearchBody, RebuildBody, RememberBody
from web.keys import checked_key
from web.operations import ADMIN, PROMPT, READ, operation
from web.resources.base import Resource
from web.schemas import (
    CoreMemories,
    Forgotten,
    FoundMemories,
    FoundMemory,
    MemoryIdentity,
    MemoryRecord,
    MemoryStatus,
    MemoryStatusAnswer,
    Rebuilt,
    Remembered,
    body_of,
)
from web.tokens import Access

MASK = "••••••••"


class MemoryResource(Resource):
    """What resources share that show or change a memory."""

    def identity_of(self, request: falcon.Request, session_key: object, *, there: bool) -> Identity:
        """Return whose memory is meant, once what its last run writes is there.

        ``there``: the session must exist. Raises SessionNotFound for one that the token may not
        see.
        """
        primary = self._gateway.settings.primary_session
        key = session_key if isinstance(session_key, str) and session_key else primary
        access: Access = request.context.access
        if not access.sees(checked_key(key)):
            raise SessionNotFound(key)
        if there:
            self._gateway.registry.state(key)
        self._gateway.memory.settle(key)
        return self._gateway.memory.identity(key)


class MemoryStatusResource(MemoryResource):
    """GET /memory/status."""

    @operation(READ, {200: MemoryStatusAnswer}, query=MemoryQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with how much is remembered, and for whom."""
        identity = self.identity_of(request, request.context.query.session_key, there=True)
        enabled = self._gateway.memory.enabled
        counts = self._gateway.memory.counts(identity)
        status = MemoryStatus(
            enabled=enabled,
            ready=enabled,
            identity=MemoryIdentity(identity.key, identity.scope),
            storage_path=self._gateway.storage_path,
            core_count=counts.core,
            archival_count=counts.archival,
            episode_count=counts.episode_rows,
            last_memory_write_at=counts.last_memory_write_at,
            last_episode_at=counts.last_episode_at,
            legacy_import_complete=True,
        )
        response.data = body_of(MemoryStatusAnswer(status))


class CoreMemoriesResource(MemoryResource):
    """GET /memory/core."""

    @operation(READ, {200: CoreMemories}, query=MemoryQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the memories that a model is told every time."""
        identity = self.identity_of(request, request.context.query.session_key, there=True)
        self._gateway.record_access(request, "memory.core", request.context.query.session_key)
        rows = self._gateway.memory.core(identity)
        access: Access = request.context.access
        response.data = body_of(CoreMemories([shown_memory(row, access) for row in rows]))


class MemorySearchResource(MemoryResource):
    """POST /memory/search."""

    @operation(READ, {200: FoundMemories}, body=MemorySearchBody, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with what fits best; secrets are found by those only who may see them."""
        body: MemorySearchBody = request.context.body
        query = body.query if isinstance(body.query, str) else ""
        hits: list[Hit] = []
        identity = self.identity_of(request, body.session_key, there=False)
        session_key = body.session_key if isinstance(body.session_key, str) else None
        self._gateway.record_access(request, "memory.search", session_key)
        if self._gateway.memory.enabled:
            query = one_line(query)
            secrets = request.context.access.may(ADMIN)
            hits = self._gateway.memory.search(identity, query, body.count, secrets=secrets)
        response.data = body_of(FoundMemories(query, [found_memory(hit) for hit in hits]))


class RememberResource(MemoryResource):
    """POST /memory/remember."""

    @operation(PROMPT, {200: Remembered}, body=RememberBody, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Remember something; what has the same key is superseded."""
        body: RememberBody = request.context.body
        identity = self.identity_of(request, body.session_key, there=False)
        record = None
        if self._gateway.memory.enabled:
            bucket, kind, key = (
                value if isinstance(value, str) else ""
                for value in (body.bucket, body.kind, body.key)
            )
            access: Access = request.context.access
            at = self._gateway.registry.now_ms()
            origin = body.session_key if isinstance(body.session_key, str) else ""
            command = Remember(
                at, body.content, bucket, kind, key, session_key=origin, **asked(request)
            )
            record = shown_memory(self._gateway.memory.remember(identity, command), access)
        response.data = body_of(Remembered(ok=True, memory=record))


class ForgetResource(MemoryResource):
    """POST /memory/forget."""

    @operation(PROMPT, {200: Forgotten}, body=ForgetBody, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Forget a memory; the log keeps that it was there."""
        body: ForgetBody = request.context.body
        identity = self.identity_of(request, body.session_key, there=False)
        forgotten = False
        if self._gateway.memory.enabled:
            command = Forget(
                self._gateway.registry.now_ms(),
                body.memory_id,
                body.key if isinstance(body.key, str) else "",
                **asked(request),
            )
            forgotten = self._gateway.memory.forget(identity, command)
        response.data = body_of(Forgotten(ok=True, forgotten=forgotten))


class RebuildResource(MemoryResource):
    """POST /memory/rebuild."""

    @operation(ADMIN, {200: Rebuilt}, body=RebuildBody, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make all rows anew from the log, after checking it."""
        identity = self.identity_of(request, request.context.body.session_key, there=False)
        counts = self._gateway.memory.rebuild(identity)
        response.data = body_of(
            Rebuilt(ok=True, memory_rows=counts.memory_rows, episode_rows=counts.episode_rows)
        )


def shown_memory(row: MemoryRow, access: Access) -> MemoryRecord:
    """Return what is told of a memory; of a secret's content nothing, but to who may see it."""
    key, content = row.key, row.content
    if row.kind == SECRET and not access.may(ADMIN):
        key = MASK if key == key_of(content) else key
        content = MASK
    return MemoryRecord(
        row.id,
        row.bucket,
        row.kind,
        key,
        content,
        row.source,
        row.created_at,
        row.updated_at,
        row.last_accessed_at,
    )


def found_memory(hit: Hit) -> FoundMemory:
    """Return what is told of what was found."""
    if isinstance(hit, MemoryHit):
        memory = hit.row
        return FoundMemory(
            id=memory.id,
            source_type="memory",
            score=hit.score,
            kind=memory.kind,
            bucket=memory.bucket,
            key=memory.key,
            content=memory.content,
            source=memory.source,
            timestamp=memory.updated_at,
        )
    said = hit.row
    return FoundMemory(
        id=said.id,
        source_type="episode",
        score=hit.score,
        role=said.role,
        content=said.text,
        timestamp=said.at,
    )
