"""Signing in with a token, and out again."""

import falcon
from msgspec import UNSET, UnsetType, field

from web.bootstrap import Gateway
from web.errors import Problem
from web.operations import READ, Refusable, operation
from web.ui.guesses import Guesses
from web.ui.page import HTML, Page, visit_of
from web.ui.paths import UI, is_inside

WRONG = "This token is not good: it is mistyped, or it was revoked."


class LoginForm(Refusable, frozen=True):
    """The token, and where to go then, as a path below /ui."""

    token: str = ""
    target: str = field(name="next", default="")


class NoForm(Refusable, frozen=True):
    """A form without fields."""


class NextQuery(Refusable, frozen=True):
    """Where to go after signing in."""

    target: str | UnsetType = field(name="next", default=UNSET)


class StartPage(Page):
    """GET /ui."""

    @operation(READ, {303: None})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the sessions."""
        self.go(request, response, "sessions")


class LoginPage(Page):
    """GET and POST /ui/login."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._guesses = Guesses(gateway.registry.now_ms)

    @operation(None, {200: HTML}, query=NextQuery)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Ask for a token, where one is needed."""
        if not self._gateway.tokens.required:
            self.go(request, response, "sessions")
            return
        target = request.context.query.target
        wanted = "" if target is UNSET else target
        self.render(request, response, "login.html", target=wanted, error="")

    @operation(None, {303: None, 403: HTML}, form=LoginForm, errors=(409, 429))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Give a cookie for a good token."""
        form: LoginForm = request.context.form
        token = form.token.strip()
        address = request.context.address
        wait_s = self._guesses.wait_s(address)
        if wait_s:
            retry = {"Retry-After": str(wait_s)}
            raise Problem(429, f"Too many wrong tokens: wait {wait_s} s.", headers=retry)
        if not self._is_good(token):
            self._guesses.add(address)
            self._gateway.log_lines.add(f"[ui] a wrong token from {address}", "warning")
            response.status = falcon.HTTP_403
            self.render(request, response, "login.html", target=form.target, error=WRONG)
            return
        request.context.pages.sign_in(response, visit_of(request), token)
        target = form.target.lstrip("/")
        self.go(request, response, target if is_inside(f"{UI}/{target}") and target else "sessions")

    def _is_good(self, token: str) -> bool:
        tokens = self._gateway.tokens
        if not tokens.required:
            raise Problem(409, "This gateway asks nobody for a token.")
        if not token or tokens.access(token) is None:
            self._gateway.admin.refresh()
        return bool(token) and tokens.access(token) is not None


class LogoutPage(Page):
    """POST /ui/logout."""

    @operation(None, {303: None}, form=NoForm)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Take the cookie back, whatever its token may do."""
        request.context.pages.sign_out(response, visit_of(request))
        self.go(request, response, "login")
