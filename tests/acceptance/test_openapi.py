"""The OpenAPI document: valid, whole, and true of what the gateway answers."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import RunningGateway
from web.app import ROUTES
from web.resources.webhooks import WebhookResource

KEY = "web:main"
ANSWERED: tuple[tuple[str, str, object], ...] = (
    ("GET", "/health", None),
    ("GET", "/ready", None),
    ("GET", "/config", None),
    ("GET", "/logs", None),
    ("GET", "/channels/status", None),
    ("GET", "/tokens", None),
    ("GET", "/sessions", None),
    ("GET", "/sessions/{key}", None),
    ("GET", "/sessions/{key}/history", None),
    ("GET", "/sessions/{key}/state", None),
    ("PATCH", "/sessions/{key}", {"name": "n"}),
    ("POST", "/sessions/{key}/messages", {"text": "!think hm\nhello\n!tool {}"}),
    ("POST", "/sessions/{key}/messages", {"text": "!fail no"}),
    ("POST", "/sessions/{key}/messages", {}),
    ("POST", "/sessions/{key}/steer", {"text": "hello"}),
    ("POST", "/sessions/{key}/enqueue", {"text": "hello"}),
    ("POST", "/sessions/{key}/abort", {"queue": True}),
    ("POST", "/sessions/{key}/abort", {"queue": "yes"}),
    ("POST", "/sessions/{key}/model", {"provider": "demo", "modelId": "echo"}),
    ("POST", "/sessions/{key}/model", {"provider": "nobody"}),
    ("POST", "/sessions/{key}/reset", None),
    ("POST", "/sessions/{key}/reload", None),
    ("DELETE", "/sessions/{key}", None),
    ("POST", "/tokens", {}),
)


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(webhook_secret="hook") as running:
        yield running


@pytest.fixture(scope="module")
def document(gateway: RunningGateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/openapi.json").body
    return found


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_method_of_every_route_is_described(document: dict[str, Any]) -> None:
    served = {
        (path, name.removeprefix("on_"))
        for path, resource in (*ROUTES, ("/webhooks/{route}", WebhookResource))
        for name in dir(resource)
        if name.startswith("on_")
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert served | {("/openapi.json", "get"), ("/webhooks", "post")} == described


@pytest.mark.parametrize(
    ("method", "path", "body"), ANSWERED, ids=lambda value: str(value).replace("/", " ")
)
def test_an_answer_is_what_the_document_says(
    gateway: RunningGateway, document: dict[str, Any], method: str, path: str, body: object
) -> None:
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = gateway.request(method, path.replace("{key}", KEY), content, headers=headers)
    said = document["paths"][path][method.lower()]["responses"][str(answer.status)]
    media_type = answer.headers["Content-Type"].partition(";")[0]
    schema = said["content"][media_type]["schema"]
    jsonschema.validate(answer.body, {**schema, "components": document["components"]})
