"""What every request must keep to before anything acts on it: its target, parameters and body."""

import re
from collections.abc import Callable
from email.message import Message
from typing import Protocol

import falcon

from web.errors import Problem
from web.operations import operation_of
from web.requests import (
    CSRF_FIELD,
    check_length,
    has_body,
    read_form,
    typed_body,
    typed_form,
    typed_headers,
    typed_query,
)

SLASHES_BELOW = "/v1/models/"
"""Where a name may hold slashes. Anywhere else the server has decoded them: a/b is no key."""

_JSON_TYPE = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BodySizes(Protocol):
    """How large a body may be, in bytes; the second where it may hold pictures."""

    body_bytes_max: int
    image_body_bytes_max: int


class Limits:
    """Middleware: refuse what could be read in two ways, or not at all."""

    def __init__(self, sizes: Callable[[], BodySizes]) -> None:
        self._sizes = sizes

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Check the target as it was sent. Raises Problem 400 or 404."""
        target: str = request.env.get("RAW_URI", "")
        if "%" not in target:
            return
        if _BAD_ESCAPE.search(target):
            raise Problem(400, "A % in the address is followed by two hexadecimal digits.")
        slashes = "%2f" in target.partition("?")[0].lower()
        if slashes and not request.path.startswith(SLASHES_BELOW):
            raise Problem(404, "Not found")

    def process_resource(
        self,
        request: falcon.Request,
        _response: falcon.Response,
        resource: object,
        _params: dict[str, str],
    ) -> None:
        """Check parameters and body of a known route, and read them. Raises Problem 4xx."""
        for name, value in request.params.items():
            if isinstance(value, list):
                raise Problem(400, f"The query parameter {name} is given more than once.")
            if "\x00" in value:
                raise Problem(400, f"The query parameter {name} can't hold U+0000.")
        described = operation_of(resource, request.method)
        sizes = self._sizes()
        bytes_max = sizes.body_bytes_max
        if described is not None and described.images:
            bytes_max = max(bytes_max, sizes.image_body_bytes_max)
        if has_body(request):
            check_length(request, bytes_max)
            if described is None or described.form is None:
                _check_type(request)
        if described is None:
            return
        if described.form is not None:
            fields = read_form(request, bytes_max)
            request.context.csrf = "".join(fields.pop(CSRF_FIELD, [])[:1])
            request.context.form = typed_form(fields, described.form)
        if described.query is not None:
            request.context.query = typed_query(request, described.query, described.digits)
        if described.headers is not None:
            request.context.headers = typed_headers(request, described.headers)
        if described.body is not None and not described.raw_body:
            request.context.body = typed_body(request, described.body, bytes_max)


def _check_type(request: falcon.Request) -> None:
    header = Message()
    header["Content-Type"] = request.content_type or "none"
    is_json = _JSON_TYPE.fullmatch(header.get_content_type()) is not None
    if not is_json or header.get_content_charset("utf-8") != "utf-8":
        raise Problem(415, "A body is sent as Content-Type: application/json, in UTF-8.")
    coding = request.get_header("Content-Encoding", default="identity")
    transfer = request.get_header("Transfer-Encoding", default="chunked")
    if coding.lower() != "identity" or transfer.lower() != "chunked":
        raise Problem(415, "A body is sent without compression.")
