"""How calls over vendors' SDKs fail, told as ModelError: in whose words, and what may help."""

import contextlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from actors.models._sdk import CONNECT_TIMEOUT_S, well_formed
from actors.models.base import ModelError

ERROR_CHARACTERS_MAX = 500
KEY_CHARACTERS_MIN = 8
"""A shorter key is a placeholder, such as "none" for a local server, and no secret."""

STATUS_OF_TYPE = {
    "api_error": 500,
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_too_large": 413,
    "server_error": 500,
    "timeout_error": 504,
}
"""The status an error would have had, for errors that come when the answer has begun."""

RETRYABLE = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)

HOPELESS = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of errors that come with a retryable status, and stay until somebody pays."""

_OVERFLOW = re.compile(
    r"(?:prompt|input) (?:is )?too long|"
    r"maximum (?:context|model|prompt) length|"
    r"(?:exceed\w*|longer than|greater than) (?:\S+ ){0,4}?"
    r"(?:context (?:length|limit|size|window)|max_model_len|model token limit|"
    r"number of tokens allowed)|"
    r"context[ _](?:length|size|window)[ _](?:has been )?exceed|exceed_context_size|"
    r"context length of only|"
    r"prompt token count of \d+ exceeds|"
    r"reduce the length of the messages",
    re.IGNORECASE,
)
"""What servers say of a prompt that does not fit."""


class Failures:
    """Tells a vendor's exceptions as ModelError, without the key.

    ``now_s`` is the time in seconds since the epoch.
    """

    def __init__(
        self,
        provider: str,
        api_key: str,
        stall_timeout_s: float,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._api_key = api_key
        self._stall_timeout_s = stall_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._now_s = now_s

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raise whatever is raised inside as ModelError."""
        try:
            yield
        except ModelError:
            raise
        except Exception as error:
            raise self._tell(error) from error

    def ended_early(self) -> ModelError:
        """Return the error for an answer whose end never came."""
        return ModelError(f"{self._provider} ended its answer early.", retryable=True)

    def _tell(self, error: Exception) -> ModelError:
        for cause in (error, error.__cause__):
            told = self._tell_connection(cause)
            if told is not None:
                return told
        status, body = getattr(error, "status_code", None), getattr(error, "body", None)
        if status is not None or body is not None:
            headers = getattr(getattr(error, "response", None), "headers", {})
            return self._tell_report(status, body, headers)
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            return ModelError(f"{self._provider} sent something that is not JSON.")
        return ModelError(
            f"The call to {self._provider} failed: {type(error.__cause__ or error).__name__}."
        )

    def _tell_connection(self, cause: BaseException | None) -> ModelError | None:
        import httpx2

        provider = self._provider
        if isinstance(cause, httpx2.ConnectTimeout):
            took = f"{self._connect_timeout_s:g} s"
            return ModelError(f"{provider} could not be reached in {took}.", retryable=True)
        if isinstance(cause, httpx2.TimeoutException):
            took = f"{self._stall_timeout_s:g} s"
            return ModelError(f"{provider} sent nothing for {took}.", retryable=True)
        if isinstance(cause, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol):
            # The text may quote a header, and so the key.
            return ModelError(f"{provider} can't be called: {type(cause).__name__}.")
        if isinstance(cause, httpx2.HTTPError | OSError):
            reason = self._safe(str(cause)) or type(cause).__name__
            return ModelError(f"The connection to {provider} failed: {reason}", retryable=True)
        return None

    def _tell_report(
        self, status: int | None, body: object, headers: Mapping[str, str]
    ) -> ModelError:
        """Tell an error that the provider itself reported, in its own words."""
        report = _report_in(body)
        if status is None or status < HTTPStatus.BAD_REQUEST:
            status = _status_in(report)  # the answer had begun, and so had a status of its own
        text = report.get("message") or report.get("detail")
        reported = "reported an error" if status is None else f"answered {status}"
        words = f": {self._safe(text)}" if isinstance(text, str) else "."
        overflow = _is_overflow(status, report)
        return ModelError(
            f"{self._provider} {reported}{words}",
            status=status,
            retryable=not overflow and _is_retryable(status, report, headers),
            retry_after_s=retry_after_s(headers, self._now_s()),
            overflow=overflow,
        )

    def _safe(self, text: str) -> str:
        if len(self._api_key) >= KEY_CHARACTERS_MIN:
            text = text.replace(self._api_key, "[key]")
        return well_formed(" ".join(text.split()))[:ERROR_CHARACTERS_MAX]


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return how long a provider asks to wait, in seconds; None where it doesn't say."""
    for header, per_second in (("retry-after-ms", 1_000), ("retry-after", 1)):
        try:
            pause_s = float(headers.get(header, "")) / per_second
        except ValueError:
            continue
        if math.isfinite(pause_s):
            return max(0.0, pause_s)
    until = _date_in(headers.get("retry-after", ""))
    if until is None:
        return None
    now = _date_in(headers.get("date", "")) or datetime.fromtimestamp(now_s, UTC)
    return max(0.0, (until - now).total_seconds())


def _date_in(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _report_in(body: object) -> Mapping[str, Any]:
    """Return what an error's body says; Google's servers put it into a list."""
    if isinstance(body, list) and body:
        body = body[0]
    said = body.get("error", body) if isinstance(body, Mapping) else body
    return said if isinstance(said, Mapping) else {"message": said}


def _status_in(report: Mapping[str, Any]) -> int | None:
    code = report.get("code")
    if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) <= 599:
        return int(code)
    for name in (report.get("type"), code):
        if isinstance(name, str) and name in STATUS_OF_TYPE:
            return STATUS_OF_TYPE[name]
    return None


def _is_overflow(status: int | None, report: Mapping[str, Any]) -> bool:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return True
    if status == HTTPStatus.TOO_MANY_REQUESTS:  # too many in a minute, which is no window
        return False
    said = (report.get(field) for field in ("code", "type", "message", "detail"))
    return any(isinstance(each, str) and _OVERFLOW.search(each) for each in said)


def _is_retryable(
    status: int | None, report: Mapping[str, Any], headers: Mapping[str, str]
) -> bool:
    told = headers.get("x-should-retry")
    if told in ("true", "false"):
        return told == "true"
    if status is None or not HOPELESS.isdisjoint(
        each for each in (report.get("code"), report.get("type")) if isinstance(each, str)
    ):
        return False
    return status in RETRYABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR
