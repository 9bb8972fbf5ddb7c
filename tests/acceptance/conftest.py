from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from tests.acceptance.gateway import (
    TWO_PROCESSES,
    ExecutedGateway,
    RunningGateway,
    TwinGateway,
)
from tests.wire.servers import AnthropicWire, ModelServer, OpenAIWire

WORKER_CLASSES = ("gevent", "gthread")
PROVIDERS = {
    "openai": (OpenAIWire(), "OPENAI"),
    "anthropic": (AnthropicWire(), "ANTHROPIC"),
}
"""Each provider's protocol, and what the names of its variables begin with."""

KEY = "sk-canary-0123456789"

StartGateway = Callable[..., RunningGateway]
OpenGateway = Callable[..., AbstractContextManager[RunningGateway]]

_running: list[RunningGateway] = []


@pytest.fixture(scope="module", params=WORKER_CLASSES)
def worker_class(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def server(provider: str) -> Iterator[ModelServer]:
    with ModelServer(PROVIDERS[provider][0]) as running:
        yield running


def reach(provider: str, server: ModelServer) -> dict[str, str]:
    """Return the variables by which a gateway finds a server as that provider's."""
    prefix = PROVIDERS[provider][1]
    return {f"{prefix}_API_KEY": KEY, f"{prefix}_BASE_URL": server.url}


@pytest.fixture(scope="session")
def open_gateway(tmp_path_factory: pytest.TempPathFactory) -> OpenGateway:
    @contextmanager
    def opened(**settings: object) -> Iterator[RunningGateway]:
        kind = TwinGateway if TWO_PROCESSES else ExecutedGateway
        with kind(tmp_path_factory.mktemp("gateway"), **settings) as gateway:
            _running.append(gateway)
            try:
                yield gateway
            finally:
                _running.remove(gateway)

    return opened


@pytest.fixture
def start_gateway(open_gateway: OpenGateway) -> Iterator[StartGateway]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(open_gateway(**settings))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    del item, call
    report = yield
    if report.failed:
        for gateway in _running:
            report.sections.append((f"sessiond at {gateway.url}", gateway.log))
    return report
