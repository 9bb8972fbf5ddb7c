"""What goes wrong, in the envelope that clients of OpenAI's API read."""

from collections.abc import Callable

import falcon
import msgspec
from msgspec import Struct

from web.errors import Problem
from web.openai_api.answer import Failure

BASE = "/v1/"
SHOULD_RETRY = "x-should-retry"
"""OpenAI's SDKs make a failed request again by themselves, unless this says ``false``."""

CODES = {401: "invalid_api_key", 429: "queue_full"}

Write = Callable[[falcon.Request, falcon.Response, Problem], None]


class OpenAIError(Struct, frozen=True):
    """What went wrong; ``param`` is the field that it is about."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorEnvelope(Struct, frozen=True):
    """An error as OpenAI's API answers it."""

    error: OpenAIError


class Refused(Problem):
    """A request that this endpoint can't do; ``param`` and ``code`` are told beside the text."""

    def __init__(
        self,
        status: int,
        detail: str,
        param: str | None = None,
        code: str | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers=headers)
        self.param = param
        self.code = code


def no_model(name: str) -> Refused:
    """Return that there is no model of that name."""
    text = f"There is no model {name!r} here: GET /v1/models lists those that there are."
    return Refused(404, text, "model", "model_not_found")


def error_of(problem: Problem) -> OpenAIError:
    """Return a problem as OpenAI's API would tell it."""
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    if problem.status == 429:
        kind = "rate_limit_error"
    param, code = getattr(problem, "param", None), getattr(problem, "code", None)
    return OpenAIError(problem.detail, kind, param, code or CODES.get(problem.status))


def problem_of_failure(failure: Failure) -> Refused:
    """Return why there is no whole answer: asked again it would be another prompt."""
    headers = {SHOULD_RETRY: "false"}
    return Refused(failure.status, failure.text, code=failure.code, headers=headers)


def openai_errors(write: Write) -> Write:
    """Return a writer of problems: in the envelope below BASE, as ``write`` does elsewhere."""

    def wrote(request: falcon.Request, response: falcon.Response, problem: Problem) -> None:
        write(request, response, problem)
        if request.path.startswith(BASE):
            response.content_type = "application/json"
            response.data = msgspec.json.encode(ErrorEnvelope(error_of(problem)))

    return wrote
