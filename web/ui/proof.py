"""A session's proof: whether its log is what was appended, and what was erased of it."""

from typing import Annotated, Any

import falcon
import msgspec
from msgspec import Meta

from actors.audit.erasing.eraser import Asker, Receipt
from actors.audit.erasing.survey import past_of
from actors.audit.signing.notes import parse_verifier_key
from actors.audit.verifying.vouching import Verified, vouched_for
from actors.replay import decode, stream_of, unhurried
from actors.session import commands as c
from actors.session.record_events import PastErasure, StreamErased
from persistence.errors import CorruptLogError, ProofError
from web.asked import asked, request_of
from web.errors import RETRY_AFTER_S, Problem
from web.operations import ADMIN, AUDIT, Refusable, operation
from web.resources.verify import Verifying, VerifyQuery
from web.streams import StreamSlot
from web.ui.login import NoForm
from web.ui.page import HTML, frame_of
from web.ui.session import SessionPage

EXPORTS = (
    ("jsonl", "Events that prove themselves (JSON lines)"),
    ("cloudevents", "The same as CloudEvents"),
    ("markdown", "A transcript as Markdown"),
    ("html", "A transcript as a web page"),
)
Reason = Annotated[str, Meta(min_length=1, max_length=1_000)]


class ProofQuery(Refusable, frozen=True):
    """Whether to verify the session's chain."""

    verify: bool = False


class HoldForm(Refusable, frozen=True):
    """Why nothing of the session may be erased."""

    reason: Reason


class EraseForm(Refusable, frozen=True):
    """Why, which events (all without both), and the session's key once more."""

    reason: Reason
    first: str = ""
    last: str = ""
    confirm: str = ""


class Proving(SessionPage, Verifying):
    """What the page of a session's proof is made of."""

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        key: str,
        *,
        verified: Verified | None = None,
        receipt: Receipt | None = None,
        failure: str = "",
    ) -> None:
        state = self._known(request, key)
        self.render(
            request,
            response,
            "proof.html",
            key=key,
            state=state,
            head=self._head(key),
            session_url=self._url(frame_of(request), key),
            exports=EXPORTS,
            checkpoint=self._checkpoint(key),
            receipts=self._receipts(key),
            report=None if verified is None else verified.report,
            receipt=receipt,
            receipt_text="" if receipt is None else _pretty(receipt),
            failure=failure,
        )

    def _checkpoint(self, key: str) -> str:
        """Say what the latest signed checkpoint has of the session."""
        keys = [parse_verifier_key(each.verifier_key) for each in self._gateway.admin.signing_keys]
        try:
            vouched = vouched_for(self._gateway.checkpoints, stream_of(key), keys)
        except (CorruptLogError, ProofError) as error:
            return f"It does not fit: {error}"
        if vouched is None:
            return "None has the session yet."
        return f"{vouched.origin}, tree size {vouched.size}: events up to {vouched.seq}"

    def _receipts(self, key: str) -> list[PastErasure]:
        found: list[PastErasure] = []
        for stored in unhurried(self._gateway.log.read(self._head(key))):
            if stored.type != StreamErased.wire_name:
                continue
            event = decode(stream_of(key), stored)
            if isinstance(event, StreamErased):
                found = [*event.earlier, past_of(stored.seq, event)]
        return found

    def _verify(self, key: str) -> Verified | None:
        if not self._slots.acquire():
            raise Problem(
                503,
                "Enough logs are being verified; try again.",
                headers={"Retry-After": RETRY_AFTER_S},
            )
        try:
            return self._verified(stream_of(key), VerifyQuery())
        finally:
            self._slots.release()


class ProofPage(Proving):
    """GET /ui/sessions/K/proof."""

    @operation(AUDIT, {200: HTML}, query=ProofQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Show how the session's log ends and what vouches for it; verify it if asked to."""
        self._head(key)
        self._gateway.record_access(request, "verify", key)
        verified = self._verify(key) if request.context.query.verify else None
        self._show(request, response, key, verified=verified)


class EraseAction(Proving):
    """POST /ui/sessions/K/erase."""

    @operation(ADMIN, {200: HTML}, form=EraseForm, errors=(404, 409, 422))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Erase the session, or a part of it, for good, and show the receipt."""
        form: EraseForm = request.context.form
        if form.confirm.strip() != key:
            raise Problem(422, "Nothing was erased: write the session's key to confirm.")
        asker = Asker(form.reason, request.context.access.principal, request_of(request))
        version = self._known(request, key).version
        wanted = _range(form, version)
        with StreamSlot(self._gateway):
            if wanted is None:
                receipt = self._gateway.eraser.erase_session(key, asker)
            else:
                receipt = self._gateway.eraser.erase_part(key, wanted, asker)
        self._show(request, response, key, receipt=receipt)


class HoldAction(Proving):
    """POST /ui/sessions/K/hold."""

    @operation(ADMIN, {303: None}, form=HoldForm, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Have nothing of the session erased until it is released."""
        self._head(key)
        at = self._gateway.registry.now_ms()
        command = c.HoldSession(at, request.context.form.reason, **asked(request))
        self._gateway.registry.ask(key, command)
        self._back(request, response, key)

    def _back(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        path = self._url(frame_of(request), key).removeprefix(frame_of(request).root + "/")
        self.go(request, response, f"{path}/proof")


class ReleaseAction(HoldAction):
    """POST /ui/sessions/K/release."""

    @operation(ADMIN, {303: None}, form=NoForm, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Let what may be erased be erased again."""
        self._head(key)
        at = self._gateway.registry.now_ms()
        self._gateway.registry.ask(key, c.ReleaseSession(at, **asked(request)))
        self._back(request, response, key)


def _range(form: EraseForm, version: int) -> tuple[int, int] | None:
    """Return which events a form names, None for all. Raises Problem 422."""
    if not form.first.strip() and not form.last.strip():
        return None
    try:
        first, last = int(form.first or form.last), int(form.last or form.first)
    except ValueError as error:
        raise Problem(422, "Events are named by their seqs: whole numbers.") from error
    if not 1 <= first <= last or first > version:
        raise Problem(422, f"The events are 1 to {version}: first is not after last.")
    return first, last


def _pretty(value: Any) -> str:  # noqa: ANN401 - any struct
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
