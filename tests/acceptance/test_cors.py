"""Pages of other origins: the configured ones may call the gateway."""

from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Answer, RunningGateway

TOKEN = "token-for-pages"
PAGE = "https://chat.example"
OTHER = "https://evil.example"


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=TOKEN, cors_origins=f"{PAGE}, http://localhost:3000") as running:
        yield running


def preflight(gateway: RunningGateway, origin: str, path: str = "/sessions/k/chat") -> Answer:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return gateway.request("OPTIONS", path, headers=headers)


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
def test_a_browser_may_ask_without_a_token_whether_its_page_may_call(
    gateway: RunningGateway, origin: str
) -> None:
    answer = preflight(gateway, origin)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert "Origin" in answer.headers["Vary"]


def test_an_allowed_page_can_read_answers_errors_and_streams(gateway: RunningGateway) -> None:
    headers = {"Origin": PAGE, "Authorization": f"Bearer {TOKEN}"}
    assert gateway.get("/sessions", **headers).headers["Access-Control-Allow-Origin"] == PAGE
    missing = gateway.get("/sessions/none", **headers)
    assert (missing.status, missing.headers["Access-Control-Allow-Origin"]) == (404, PAGE)
    refused = gateway.get("/sessions", Origin=PAGE)
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, PAGE)
    body = {"text": "hello"}
    with gateway.stream("/sessions/k/chat", headers=headers, method="POST", body=body) as stream:
        assert stream.headers["Access-Control-Allow-Origin"] == PAGE
        exposed = set(stream.headers["Access-Control-Expose-Headers"].split(", "))
        assert {"Retry-After", "X-Session-Key", "x-should-retry"} <= exposed


@pytest.mark.parametrize("origin", [OTHER, "null", f"{PAGE}.evil.example", PAGE.upper()])
def test_another_page_gets_nothing_that_lets_it_read(gateway: RunningGateway, origin: str) -> None:
    asked = preflight(gateway, origin)
    assert asked.status == 401
    answer = gateway.get("/sessions", Origin=origin, Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200
    for each in (asked, answer):
        assert not [name for name in each.headers if name.lower().startswith("access-control-")]
