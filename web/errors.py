"""Errors as problem documents (RFC 9457), with ``error`` for the clients that read only that."""

import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus

import falcon
import msgspec

from actors.audit.travel.places import BeyondEndError, NeverWasError, PlaceError
from actors.errors import Draining, SessionNotFound, TooManySessions
from actors.log_lines import LogLines
from actors.runs.tracing import trace_id_of
from actors.session.rejections import ApprovalNotFound, KeyReused, QueueFull, Rejection
from persistence.errors import CorruptLogError, ProofError, StoreUnavailableError

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = "1"
TELL_METHODS = ("/sessions/", "/v1/")

logger = logging.getLogger(__name__)


class Problem(Exception):
    """A request that is answered with an error; ``extra`` is shown beside the standard fields."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra or {}


def problem_of(error: Exception) -> Problem:
    """Return the answer to an error: the one place where errors get their status."""
    retry = {"Retry-After": RETRY_AFTER_S}
    match error:
        case Problem():
            return error
        case SessionNotFound() | ApprovalNotFound() | NeverWasError():
            return Problem(404, str(error))
        case PlaceError():
            return Problem(400, str(error))
        case BeyondEndError():
            return Problem(412, str(error))
        case QueueFull():
            return Problem(429, str(error), headers=retry)
        case KeyReused():
            return Problem(422, str(error))
        case Rejection():
            return Problem(409, str(error))
        case Draining() | TooManySessions():
            return Problem(503, str(error), headers=retry)
        case StoreUnavailableError():
            logger.error("%s", error)
            return Problem(503, "The event log can't be reached now.", headers=retry)
        case CorruptLogError() | ProofError():
            logger.error("%s", error)
            return Problem(500, str(error))
        case falcon.HTTPError():
            return Problem(error.status_code, error.description or error.title)
    logger.exception("A request failed.", exc_info=error)
    return Problem(500, "Internal error")


def write_problem(request: falcon.Request, response: falcon.Response, problem: Problem) -> None:
    """Make the response say what is wrong."""
    status = HTTPStatus(problem.status)
    response.status = f"{status.value} {status.phrase}"
    response.content_type = PROBLEM_TYPE
    trace_id = trace_id_of(getattr(request.context, "trace", ""))
    response.data = msgspec.json.encode(
        {
            **problem.extra,
            **({"trace_id": trace_id} if trace_id else {}),
            "error": problem.detail,
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": problem.detail,
            "request_id": getattr(request.context, "request_id", None) or str(uuid.uuid4()),
        }
    )
    for name, value in problem.headers.items():
        response.set_header(name, value)
    response.stream = None


class ErrorHandler:
    """Falcon's handler for every error; each leaves a line, without the query.

    ``write`` is how a problem becomes the answer.
    """

    def __init__(
        self,
        log_lines: LogLines,
        write: Callable[[falcon.Request, falcon.Response, Problem], None] = write_problem,
    ) -> None:
        self._log_lines = log_lines
        self._write = write

    def __call__(
        self,
        request: falcon.Request,
        response: falcon.Response,
        error: Exception,
        _params: object,
    ) -> None:
        """Answer with the problem."""
        if isinstance(error, falcon.HTTPMethodNotAllowed):
            error = _wrong_method(request, error)
        problem = problem_of(error)
        trace_id = trace_id_of(getattr(request.context, "trace", ""))
        traced = f" trace={trace_id}" if trace_id else ""
        self._log_lines.add(
            f"[http] <-- {request.method} {request.path} {problem.status}{traced} "
            f"error: {problem.detail}",
            "warning",
        )
        self._write(request, response, problem)


def not_found(req: falcon.Request, resp: falcon.Response, **_parts: str) -> None:  # noqa: ARG001 - Falcon passes them by name
    """Falcon's answer to an unknown path."""
    raise Problem(404, "Not found")


def _wrong_method(request: falcon.Request, error: falcon.HTTPMethodNotAllowed) -> Problem:
    """Only some paths tell a wrong method from an unknown path; TRACE is wrong on any."""
    if request.path.startswith(TELL_METHODS) or request.method == "TRACE":
        return Problem(405, "Method not allowed", headers=dict(error.headers or {}))
    return Problem(404, "Not found")
