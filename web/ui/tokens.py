"""Named tokens: issued, listed, revoked."""

import falcon

from web.asked import asked
from web.inputs import TokenBody
from web.operations import ADMIN, SCOPES, Refusable, operation
from web.requests import typed_object
from web.ui.login import NoForm
from web.ui.page import HTML, Page


class TokenForm(Refusable, frozen=True):
    """A token to issue."""

    name: str
    scopes: list[str]
    key_prefix: str = ""


class TokensPage(Page):
    """GET and POST /ui/tokens."""

    @operation(ADMIN, {200: HTML})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show all tokens there ever were, none of them in clear."""
        self._show(request, response, "")

    @operation(ADMIN, {200: HTML}, form=TokenForm, errors=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Issue a token, and show it: this once, so the answer is no redirect."""
        form: TokenForm = request.context.form
        wanted = {"name": form.name, "scopes": form.scopes, "keyPrefix": form.key_prefix}
        text, _ = self._gateway.admin.issue_token(typed_object(wanted, TokenBody), **asked(request))
        self._show(request, response, text)

    def _show(self, request: falcon.Request, response: falcon.Response, text: str) -> None:
        self._gateway.admin.refresh()
        tokens = self._gateway.tokens
        self.render(
            request,
            response,
            "tokens.html",
            tokens=tokens.named[::-1],
            scopes=SCOPES,
            issued=text,
            are_required=tokens.required,
        )


class RevokePage(Page):
    """POST /ui/tokens/<id>/revoke."""

    @operation(ADMIN, {303: None}, form=NoForm)
    def on_post(self, request: falcon.Request, response: falcon.Response, token_id: str) -> None:
        """Revoke a token: at once, and its open streams end."""
        revoked = self._gateway.admin.revoke_token(token_id, **asked(request))
        self.go(request, response, f"tokens?done={'revoked' if revoked else 'nothing'}")
