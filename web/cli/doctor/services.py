"""What ``sessiond doctor`` checks of others: models and MCP servers, asked with --online only."""

import os
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from web.cli.doctor.findings import Finding, Findings, fail, ok, warn
from web.configured import ConfiguredServer
from web.settings import Settings

if TYPE_CHECKING:
    from actors.tools.mcp import McpStatus

SERVERS_WAIT_S = 30.0
POLL_S = 0.05
SETTLED = frozenset({"ready", "down", "closed"})
NOT_ASKED = "--online asks it"


def check_models(settings: Settings, environment: Mapping[str, str], *, online: bool) -> Findings:
    """Look which models there are keys for; online, have each provider list its models."""
    from actors.models.base import ModelError
    from actors.models.catalog import ModelCatalog

    try:
        default = ModelCatalog(settings, environment).default
    except ModelError as error:
        yield fail("model", str(error), "Set model to a provider/id that there is a key for.")
        return
    name = f"{default.provider}/{default.model_id}"
    if default.provider == "demo":
        todo = "Set ANTHROPIC_API_KEY, OPENAI_API_KEY or OPENAI_BASE_URL for real answers."
        yield warn("model", "Only the demo model answers, with the prompt's own words.", todo)
    else:
        yield ok("model", f"{name} answers unless a session chose another")
    for provider in _providers(environment):
        yield _provider(provider, environment, name, online=online)


def _providers(environment: Mapping[str, str]) -> list[str]:
    found = ["anthropic"] if environment.get("ANTHROPIC_API_KEY") else []
    if environment.get("OPENAI_API_KEY") or environment.get("OPENAI_BASE_URL"):
        found.append("openai")
    return found


def _provider(
    provider: str, environment: Mapping[str, str], default: str, *, online: bool
) -> Finding:
    """Say whether a provider takes the key."""
    from actors.models.base import ModelError
    from actors.models.catalog import ADDRESSES
    from actors.models.listing import anthropic_models, openai_models

    prefix = provider.upper()
    address = environment.get(f"{prefix}_BASE_URL") or None
    where = f"{provider} at {address or ADDRESSES[provider]}"
    if not online:
        return ok(provider, f"{where} was not asked ({NOT_ASKED})")
    fetch = {"anthropic": anthropic_models, "openai": openai_models}[provider]
    try:
        listed = fetch(environment.get(f"{prefix}_API_KEY", ""), address)
    except ModelError as error:
        todo = f"Check {prefix}_API_KEY and {prefix}_BASE_URL, and the way there."
        return fail(provider, str(error), todo)
    wanted = default.partition("/")[2]
    if default.startswith(f"{provider}/") and not _has(listed, wanted):
        said = f"{where} does not list the model {wanted}."
        return warn(provider, said, "Set model to one that it lists: GET /models shows them.")
    return ok(provider, f"{where} takes the key, and lists {len(listed)} models")


def _has(listed: Mapping[str, object], model_id: str) -> bool:
    from actors.models.listing import Listed

    return Listed(dict(listed)).find(model_id) is not None  # type: ignore[arg-type]


def check_servers(settings: Settings, *, online: bool) -> Findings:
    """Look whether MCP servers can be started; online, start them and have them list tools."""
    if not settings.mcp_servers:
        return
    if settings.tools == "none":
        todo = "Set tools to read, write or all, or take mcp_servers out."
        yield warn("mcp", "MCP servers are configured, and tools is none.", todo)
    missing = [each for each in settings.mcp_servers if not _startable(each)]
    for each in missing:
        assert each.command is not None
        todo = "Install it, or name it by its whole path."
        yield fail("mcp", f"{each.name}: there is no program {each.command[0]}.", todo)
    there = [each for each in settings.mcp_servers if each not in missing]
    if not online:
        for each in there:
            yield ok("mcp", f"{each.name} was not started ({NOT_ASKED})")
    elif there:
        yield from map(_server, _statuses(there))


def _startable(server: ConfiguredServer) -> bool:
    path = server.environment.get("PATH", os.environ.get("PATH"))
    return server.command is None or shutil.which(server.command[0], path=path) is not None


def _statuses(servers: list[ConfiguredServer]) -> "list[McpStatus]":
    """Start servers, wait until each is ready or failed, end them, and return how they were."""
    from actors.tools.mcp import McpServers

    running = McpServers(servers)
    try:
        running.start()
        until = time.monotonic() + SERVERS_WAIT_S
        while time.monotonic() < until:
            if all(each.state in SETTLED or each.error for each in running.status()):
                break
            time.sleep(POLL_S)
        return running.status()
    finally:
        running.close()


def _server(status: "McpStatus") -> Finding:
    if status.state == "ready":
        return ok("mcp", f"{status.name} is ready, with {status.tools} tools")
    said = f"{status.name} is {status.state}: {status.error or 'it says nothing'}"
    return fail("mcp", said, "Start it by hand to see what it says; check its command or url.")
