"""Requests with a token, as tests about auditing make them."""

import json
from typing import Any

from tests.acceptance.gateway import Answer, RunningGateway, Stream

TOKEN = "canary-token-123456"
AGENT = "canary-agent/1.0 (ü)"
AGENT_HEADER = {"User-Agent": AGENT.encode().decode("latin-1")}


def headers_of(token: str = TOKEN, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **headers}


def ask(
    gateway: RunningGateway, method: str, path: str, body: object = None, **headers: str
) -> Answer:
    content = None if body is None else json.dumps(body).encode()
    return gateway.request(method, path, content, headers=headers_of(**headers))


def get(gateway: RunningGateway, path: str, token: str = TOKEN) -> Any:
    answer = gateway.request("GET", path, headers=headers_of(token, Accept="application/json"))
    assert answer.status == 200, answer.body
    return answer.body


def open_log(gateway: RunningGateway, path: str, token: str = TOKEN) -> Stream:
    return gateway.stream(path, headers=headers_of(token))
