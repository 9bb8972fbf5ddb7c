"""What the page knows of who looks at it: where it is mounted, the cookie, the CSRF token."""

import re
from collections.abc import Callable, Collection

import falcon
from msgspec import Struct

from web.addresses import Network, is_trusted
from web.errors import Problem
from web.settings import is_loopback
from web.tokens import Tokens
from web.ui.cookies import Seal, Sealed, is_same
from web.ui.paths import STATIC, UI, is_ui

SIGNED_IN = "sessiond_ui"
VISITOR = "sessiond_visitor"
CSRF_HEADER = "X-CSRF-Token"
HOUR_MS = 3_600_000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES = frozenset({"same-origin", "none"})
"""What Sec-Fetch-Site says of the page's own forms, and of what people typed themselves."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NO_STORE = "no-store"

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


class Visit(Struct, frozen=True):
    """A request of the page. ``root`` is the path that its links begin with, prefix included.

    ``until`` is when its cookie ends, in milliseconds since the epoch.
    """

    root: str
    secure: bool
    signed_in: bool
    token: str
    csrf: str
    until: int


class PageVisits:
    """Middleware: open the cookie, or give one; set the headers that confine every page.

    It comes before Authentication, which asks for the visit's token.
    """

    def __init__(
        self,
        tokens: Tokens,
        seal: Seal,
        trusted: Collection[Network],
        now_ms: Callable[[], int],
        hours: Callable[[], float],
    ) -> None:
        self._tokens = tokens
        self._seal = seal
        self._trusted = trusted
        self._now_ms = now_ms
        self._hours = hours

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Note who looks; send a browser that asks for nothing here.

        Raises Problem 403 for a foreign name without tokens.
        """
        if request.path == "/" and _wants_page(request):
            raise falcon.HTTPSeeOther(self._mounted(request)[0])
        if not is_ui(request.path):
            return
        for name, value in HEADERS.items():
            response.set_header(name, value)
        response.set_header("Cache-Control", NO_STORE)
        request.context.pages = self
        root, secure = self._mounted(request)
        held = self._held(request, SIGNED_IN)
        signed_in = held is not None
        if held is None:
            held = self._held(request, VISITOR)
        if held is None and not request.path.startswith(STATIC):
            held = self._give(response, root, VISITOR, "", secure=secure)
        if held is None:
            held = Sealed("", "", 0)
        token = held.token if signed_in else ""
        request.context.visit = Visit(root, secure, signed_in, token, held.csrf, held.until)
        if not self._tokens.required and not is_loopback(request.host):  # DNS may be rebound
            raise Problem(
                403, "Without tokens the page is served as localhost only: set SESSIOND_TOKEN."
            )

    def sign_in(self, response: falcon.Response, visit: Visit, token: str) -> None:
        """Give the cookie that holds a token."""
        self._give(response, visit.root, SIGNED_IN, token, secure=visit.secure)

    def sign_out(self, response: falcon.Response, visit: Visit) -> None:
        """Take both cookies back."""
        for name in (SIGNED_IN, VISITOR):
            response.unset_cookie(name, same_site="Strict", path=visit.root)

    def _held(self, request: falcon.Request, name: str) -> Sealed | None:
        cookie = request.cookies.get(name)
        return None if cookie is None else self._seal.opened(cookie, self._now_ms())

    def _give(
        self,
        response: falcon.Response,
        root: str,
        name: str,
        token: str,
        *,
        secure: bool,
    ) -> Sealed:
        hours = self._hours()
        cookie, held = self._seal.sealed(token, self._now_ms() + int(hours * HOUR_MS))
        response.set_cookie(
            name,
            cookie,
            max_age=int(hours * 3_600),
            path=root,
            secure=secure,
            http_only=True,
            same_site="Strict",
        )
        return held

    def _mounted(self, request: falcon.Request) -> tuple[str, bool]:
        """Return what links begin with, and whether the browser came by HTTPS."""
        prefix, scheme = request.root_path, request.scheme
        if is_trusted(request.env.get("REMOTE_ADDR") or "", self._trusted):
            prefix = (request.get_header("X-Forwarded-Prefix") or "").rstrip("/") or prefix
            forwarded = request.get_header("X-Forwarded-Proto") or scheme
            scheme = forwarded.partition(",")[0].strip().lower()  # the first is the browser's
        if not _PREFIX.fullmatch(prefix):
            prefix = ""
        return prefix + UI, scheme == "https"


class PageForms:
    """Middleware: refuse what changes something and did not come from the page.

    It comes after Limits, which reads the form.
    """

    def process_resource(
        self,
        request: falcon.Request,
        _response: falcon.Response,
        _resource: object,
        _params: dict[str, str],
    ) -> None:
        """Check where it is from, and the form's or htmx's CSRF token. Raises Problem 403."""
        if request.method in SAFE_METHODS or not is_ui(request.path):
            return
        if request.get_header("Sec-Fetch-Site", default="none") not in OWN_SITES:
            raise Problem(403, "This form is of another site.")
        offered = request.get_header(CSRF_HEADER) or getattr(request.context, "csrf", "")
        if not offered or not is_same(offered, request.context.visit.csrf):
            raise Problem(403, "This form is too old, or not of this page: load the page again.")


def _wants_page(request: falcon.Request) -> bool:
    return request.method == "GET" and "text/html" in (request.get_header("Accept") or "")
