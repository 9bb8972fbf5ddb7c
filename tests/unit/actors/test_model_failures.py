"""How long a provider asks to wait, and what it reports in unusual ways."""

import pytest

from actors.models._failures import Failures, retry_after_s
from actors.models.base import ModelError

NOW_S = 1_795_540_000.0  # 2026-11-24T17:06:40Z


class Reported(Exception):
    """What both SDKs raise for an answer with an error status."""

    def __init__(self, status_code: int, body: object) -> None:
        self.status_code = status_code
        self.body = body


def told(error: Exception) -> ModelError:
    with pytest.raises(ModelError) as raised, Failures("acme", "", 1.0).told():
        raise error
    return raised.value


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Tue, 24 Nov 2026 17:07:10 GMT"}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 17:07:10 -0000"}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 17:06:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 24 Nov 99999 17:06:00 GMT"}, None),
        (
            # Its own clock counts where it tells the time.
            {
                "retry-after": "Tue, 24 Nov 2026 09:00:05 GMT",
                "date": "Tue, 24 Nov 2026 09:00:00 GMT",
            },
            5.0,
        ),
    ],
)
def test_the_pause_is_told_in_seconds(headers: dict[str, str], pause_s: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == pause_s


def test_an_error_in_a_list_is_read_as_googles_servers_write_it() -> None:
    message = "The input token count exceeds the maximum number of tokens allowed 1048576."
    error = told(Reported(400, [{"error": {"code": 400, "message": message}}]))
    assert str(error) == f"acme answered 400: {message}"
    assert error.overflow


@pytest.mark.parametrize("body", [None, [], [None], {}, {"error": None}, "x", 7, {"error": "x"}])
def test_a_body_of_any_shape_is_an_error(body: object) -> None:
    error = told(Reported(503, body))
    assert (error.status, error.retryable, error.overflow) == (503, True, False)
