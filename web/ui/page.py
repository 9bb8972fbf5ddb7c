"""What every page has: its template, its place in the navigation, what its visitor may do."""

from typing import Any

import falcon
from msgspec import Struct

from web.operations import ADMIN, AUDIT, PROMPT, READ
from web.resources.base import Resource
from web.tokens import NOTHING, Access
from web.ui.templating import templates
from web.ui.visit import Visit

HTML = "text/html"
HTML_TYPE = "text/html; charset=utf-8"
EVERYONES = "everyones"
"""Stands for what a token of some sessions only may not see, though it needs no more than READ."""

NAVIGATION = (
    ("sessions", "Sessions", READ),
    ("approvals", "Approvals", READ),
    ("memory", "Memory", READ),
    ("models", "Models", READ),
    ("usage", "Usage", EVERYONES),
    ("checkpoints", "Checkpoints", AUDIT),
    ("workers", "Workers", ADMIN),
    ("logs", "Logs", ADMIN),
    ("config", "Config", ADMIN),
    ("tokens", "Tokens", ADMIN),
)
"""Path below the root, label, and the scope without which it is not shown."""


class Link(Struct, frozen=True):
    """An entry of the navigation."""

    href: str
    label: str
    current: bool


class Frame(Struct, frozen=True):
    """What a template finds as ``ui``.

    ``root`` is what every link begins with, ``/prefix/ui``; ``csrf`` goes into every form.
    """

    root: str
    csrf: str
    signed_in: bool
    principal: str
    may_prompt: bool
    may_audit: bool
    may_admin: bool
    key_prefix: str
    links: list[Link]
    notice: str


NOTICES = {
    "prompted": "The prompt is queued.",
    "remembered": "It is remembered.",
    "forgotten": "It is forgotten.",
    "nothing": "There was nothing to do.",
    "changed": "The settings are changed, for all sessions and over restarts.",
    "revoked": "The token is revoked: it is good for nothing any more.",
    "approved": "The call is approved; its run goes on.",
    "denied": "The call is denied.",
    "signed": "The checkpoint is signed.",
}
"""What is said after something was done, by the word in the address: never free text from there."""


class Page(Resource):
    """A page; its responders are ``operation``s that answer HTML, as routes of the API are."""

    def render(
        self,
        request: falcon.Request,
        response: falcon.Response,
        template: str,
        **values: Any,  # noqa: ANN401 - whatever the template shows
    ) -> None:
        """Answer with a template, which finds ``ui`` besides the values."""
        response.content_type = HTML_TYPE
        response.text = templates().get_template(template).render(ui=frame_of(request), **values)

    @property
    def is_live(self) -> bool:
        """Tell whether lists may ask again by themselves: not where the log keeps each read."""
        return not self._gateway.settings.audit_reads

    def go(self, request: falcon.Request, response: falcon.Response, path: str) -> None:
        """Send the browser to another path below the root, by GET; htmx as well."""
        target = f"{visit_of(request).root}/{path}"
        if is_htmx(request):
            response.set_header("HX-Redirect", target)
            response.status = falcon.HTTP_204
            return
        response.status = falcon.HTTP_303
        response.set_header("Location", target)


def visit_of(request: falcon.Request) -> Visit:
    """Return what is known of who looks."""
    visit: Visit = request.context.visit
    return visit


def is_htmx(request: falcon.Request) -> bool:
    """Tell whether a part of a page is asked for, not a whole one."""
    return request.get_header("HX-Request") == "true"


def frame_of(request: falcon.Request) -> Frame:
    """Return what is around a page's own content."""
    visit = visit_of(request)
    access: Access = getattr(request.context, "access", Access("", NOTHING))
    below = request.path.removeprefix("/ui/")
    links = [
        Link(f"{visit.root}/{path}", label, below.split("/")[0] == path)
        for path, label, scope in NAVIGATION
        if _is_shown(access, scope)
    ]
    return Frame(
        root=visit.root,
        csrf=visit.csrf,
        signed_in=visit.signed_in,
        principal=access.principal,
        may_prompt=access.may(PROMPT),
        may_audit=access.may(AUDIT),
        may_admin=access.may(ADMIN),
        key_prefix=access.key_prefix,
        links=links,
        notice=NOTICES.get(str(request.params.get("done", "")), ""),
    )


def _is_shown(access: Access, scope: str) -> bool:
    if scope == EVERYONES:
        return access.may(READ) and not access.key_prefix
    return access.may(scope) and not (scope == ADMIN and access.key_prefix)
