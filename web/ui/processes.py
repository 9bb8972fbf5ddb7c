"""What the gateway's processes do: workers and their leases, log lines, checkpoints."""

import falcon
from msgspec import Struct

from actors.replay import STREAM_PREFIX
from persistence.directory import Owned
from web.asked import asked
from web.inputs import Count
from web.operations import ADMIN, AUDIT, Refusable, operation
from web.resources.checkpoints import refuse_bound
from web.ui.login import NoForm
from web.ui.page import HTML, Page, is_htmx

SHOWN_LINES = 300
PAGE_CHECKPOINTS = 50
NOBODY = Owned(0, 0)


class ShownWorker(Struct, frozen=True):
    """A worker process; times in milliseconds, None where it needs no lease."""

    name: str
    is_this: bool
    started_at: int | None
    renewed_at: int | None
    sessions: int
    working: int


class WorkersPage(Page):
    """GET /ui/workers."""

    @operation(ADMIN, {200: HTML})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show which processes live, and what they own; to htmx the list alone."""
        gateway = self._gateway
        template = "_workers.html" if is_htmx(request) else "workers.html"
        self.render(
            request,
            response,
            template,
            workers=self._workers(),
            shared=gateway.shared,
            loaded=gateway.registry.count,
            runs=gateway.registry.runs_count,
            streams=gateway.streams.held,
            storage=gateway.storage_path or "PostgreSQL",
        )

    def _workers(self) -> list[ShownWorker]:
        gateway = self._gateway
        owned = gateway.directory.owned(STREAM_PREFIX)
        leases = {each.name: each for each in gateway.directory.workers()}
        names = list(leases) or [gateway.owner]
        return [
            ShownWorker(
                name,
                name == gateway.owner,
                leases[name].started_at // 1_000 if name in leases else None,
                leases[name].renewed_at // 1_000 if name in leases else None,
                owned.get(name, NOBODY).streams,
                owned.get(name, NOBODY).active,
            )
            for name in names
        ]


class LogsPage(Page):
    """GET /ui/logs."""

    @operation(ADMIN, {200: HTML})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the newest lines, the newest first; to htmx the list alone."""
        if self._gateway.settings.log_texts:
            self._gateway.record_access(request, "logs")
        lines = self._gateway.log_lines.newest(SHOWN_LINES)[::-1]
        template = "_logs.html" if is_htmx(request) else "logs.html"
        live = self.is_live or not self._gateway.settings.log_texts
        self.render(request, response, template, lines=lines, live=live)


class CheckpointsQuery(Refusable, frozen=True):
    """Checkpoints of sizes below ``before``."""

    before: Count | None = None
    done: str = ""


class CheckpointsPage(Page):
    """GET and POST /ui/checkpoints."""

    @operation(AUDIT, {200: HTML}, query=CheckpointsQuery)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show signed checkpoints, the newest first, and the keys that verify them."""
        gateway = self._gateway
        gateway.admin.refresh()
        found = gateway.checkpoints.page(request.context.query.before, PAGE_CHECKPOINTS)
        latest = gateway.checkpoints.latest()
        self.render(
            request,
            response,
            "checkpoints.html",
            checkpoints=found,
            further=found[-1].size if len(found) == PAGE_CHECKPOINTS else None,
            note="" if latest is None else latest.note,
            keys=[each.verifier_key for each in gateway.admin.signing_keys],
            witnesses=gateway.settings.witnesses,
            may_sign=not request.context.access.key_prefix,
        )

    @operation(AUDIT, {303: None}, form=NoForm, errors=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Sign where all streams end now."""
        refuse_bound(request)
        signed = self._gateway.checkpoints.sign_now(**asked(request))
        done = "nothing" if signed is None else "signed"
        self.go(request, response, f"checkpoints?done={done}")
