"""What is remembered: searched, added to, forgotten."""

from typing import Annotated

import falcon
from msgspec import Meta

from actors.memory.rules import Forget, Remember, one_line
from web.asked import asked
from web.inputs import ForgetBody, RememberBody
from web.operations import ADMIN, PROMPT, READ, Refusable, operation
from web.resources.memory import MemoryResource, found_memory, shown_memory
from web.ui.page import HTML, Page

RESULTS = 50

SessionKey = Annotated[str, Meta(max_length=200)]


class MemoryQuery(Refusable, frozen=True):
    """Whose memory, by a session's key, and what to look for."""

    session: SessionKey = ""
    q: Annotated[str, Meta(max_length=1_000)] = ""
    done: str = ""


class RememberForm(Refusable, frozen=True):
    """What to remember; core is told to a model every time."""

    content: str
    session: SessionKey = ""
    key: str = ""
    bucket: str = ""


class ForgetForm(Refusable, frozen=True):
    """Which memory to forget, by its id."""

    memory_id: Annotated[int, Meta(ge=1)]
    session: SessionKey = ""


class MemoryPage(MemoryResource, Page):
    """GET and POST /ui/memory."""

    @operation(READ, {200: HTML}, query=MemoryQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show how much there is, the core memories, and what answers a search."""
        query: MemoryQuery = request.context.query
        access = request.context.access
        if access.key_prefix and not query.session:
            self.render(request, response, "memory.html", query=query, identity=None, hits=[])
            return
        identity = self.identity_of(request, query.session, there=False)
        memory = self._gateway.memory
        resource = "memory.search" if query.q else "memory.core"
        self._gateway.record_access(request, resource, query.session or None)
        hits = []
        if memory.enabled:
            secrets = access.may(ADMIN)
            text = one_line(query.q)
            hits = [
                found_memory(each)
                for each in memory.search(identity, text, RESULTS, secrets=secrets)
            ]
        self.render(
            request,
            response,
            "memory.html",
            query=query,
            identity=identity,
            hits=hits,
            enabled=memory.enabled,
            counts=memory.counts(identity),
            core=[shown_memory(row, access) for row in memory.core(identity)],
        )

    @operation(PROMPT, {303: None}, form=RememberForm, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Remember something."""
        form: RememberForm = request.context.form
        identity = self.identity_of(request, form.session, there=False)
        body = RememberBody(form.content, key=form.key, bucket=form.bucket)
        at = self._gateway.registry.now_ms()
        done = "nothing"
        if self._gateway.memory.enabled:
            command = Remember(
                at,
                body.content,
                form.bucket,
                "",
                form.key,
                session_key=form.session,
                **asked(request),
            )
            self._gateway.memory.remember(identity, command)
            done = "remembered"
        self.go(
            request, response, f"memory?session={falcon.uri.encode_value(form.session)}&done={done}"
        )


class ForgetPage(MemoryResource, Page):
    """POST /ui/memory/forget."""

    @operation(PROMPT, {303: None}, form=ForgetForm, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Forget a memory; the log keeps that it was there."""
        form: ForgetForm = request.context.form
        identity = self.identity_of(request, form.session, there=False)
        body = ForgetBody(id=form.memory_id)
        at = self._gateway.registry.now_ms()
        forgotten = self._gateway.memory.enabled and self._gateway.memory.forget(
            identity, Forget(at, body.memory_id, "", **asked(request))
        )
        done = "forgotten" if forgotten else "nothing"
        self.go(
            request, response, f"memory?session={falcon.uri.encode_value(form.session)}&done={done}"
        )
