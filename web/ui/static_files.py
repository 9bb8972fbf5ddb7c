"""The page's static files: a few, from the installed package, kept by the browser."""

from functools import cache

import falcon

from web.errors import Problem
from web.operations import operation
from web.ui.page import Page
from web.ui.templating import STATIC_FILES

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
FOR_GOOD = "public, max-age=31536000, immutable"


class StaticPage(Page):
    """GET /ui/static/<name>."""

    @operation(None, {200: "text/plain"}, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Answer with a file, for good where the address has its digest."""
        content = _files().get(name)
        if content is None:
            raise Problem(404, "There is no such file.")
        response.content_type = TYPES["." + name.rpartition(".")[2]]
        response.data = content
        if "v" in request.params:
            response.set_header("Cache-Control", FOR_GOOD)


@cache
def _files() -> dict[str, bytes]:
    """Return all files by name, read once: no path of a request ever opens one."""
    return {path.name: path.read_bytes() for path in STATIC_FILES.iterdir() if path.suffix in TYPES}
