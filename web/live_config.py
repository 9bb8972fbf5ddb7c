"""Settings as they are now: configured ones, and what was changed since."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from web.errors import Problem
from web.settings import Settings

CHANGEABLE: Mapping[str, str] = {
    "session.idleMinutes": "idle_minutes",
    "session.maxQueuePerSession": "queue_max",
    "session.maxLoaded": "sessions_loaded_max",
    "run.timeoutSeconds": "run_timeout_s",
    "run.maxTurns": "run_turns_max",
    "stream.heartbeatSeconds": "heartbeat_s",
    "stream.slowReaderSeconds": "slow_reader_timeout_s",
    "limits.bodyBytes": "body_bytes_max",
    "memory.enabled": "memory_enabled",
    "memory.maxCoreTokens": "memory_core_tokens_max",
    "memory.maxRecallResults": "memory_recall_results_max",
    "memory.writer.enabled": "memory_writer_enabled",
    "memory.writer.maxTokens": "memory_writer_tokens_max",
    "audit.reads": "audit_reads",
}
"""Path below ``gateway`` -> setting: what PATCH /config may change while the gateway runs."""

SHOWN: Mapping[str, str] = {
    "bind": "bind",
    "port": "port",
    "workers": "workers",
    "workerClass": "worker_class",
    "webhook.basePath": "webhook_base_path",
    "memory.identity": "memory_identity",
    **CHANGEABLE,
}
"""What GET /config shows; a setting that is not here is never shown."""

SECRETS = frozenset({"token", "bearerToken", "secret", "apiKey", "databaseUrl", "database_url"})


class LiveConfig:
    """The current settings; replaced as a whole, so that a reader sees one state of them."""

    def __init__(self, configured: Settings) -> None:
        self._configured = configured
        self.current = configured

    def install(self, overrides: Mapping[str, Any]) -> None:
        """Make the overrides count from now on."""
        self.current = self._with(overrides)

    def is_changed(self, name: str) -> bool:
        """Tell whether a setting is another than the configured one."""
        return bool(getattr(self.current, name) != getattr(self._configured, name))

    def checked(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a patch's changes by setting. Raises Problem 403 or 422, naming the path."""
        _refuse_secrets(patch, "")
        changes = dict(_changes(patch.get("gateway", {}), ""))
        unknown = set(patch) - {"gateway"}
        if unknown:
            raise _refusal(min(unknown))
        try:
            self._with({name: value for name, value in changes.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            raise Problem(422, f"{_path_of(str(first['loc'][0]))}: {first['msg']}") from error
        return changes

    def shown(self, default_model: str) -> dict[str, Any]:
        """Return the settings as GET /config shows them below ``gateway``: no secret among them."""
        shown: dict[str, Any] = {"model": default_model}
        for path, name in SHOWN.items():
            *sections, leaf = path.split(".")
            inner = shown
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[leaf] = getattr(self.current, name)
        shown["webhook"]["enabled"] = self.current.webhook_secret is not None
        return shown

    def _with(self, overrides: Mapping[str, Any]) -> Settings:
        return Settings.model_validate({**self._configured.model_dump(), **overrides})


def _refuse_secrets(node: object, path: str) -> None:
    if isinstance(node, Mapping):
        for name, value in node.items():
            below = f"{path}.{name}" if path else name
            if name in SECRETS:
                raise Problem(403, f"{below} is a secret: it is set where the gateway starts.")
            _refuse_secrets(value, below)


def _changes(node: object, path: str) -> list[tuple[str, Any]]:
    if path in CHANGEABLE:
        return [(CHANGEABLE[path], node)]
    if not isinstance(node, Mapping):
        raise _refusal(path or "gateway")
    found: list[tuple[str, Any]] = []
    for name, value in node.items():
        below = f"{path}.{name}" if path else name
        if not any(f"{known}.".startswith(f"{below}.") for known in CHANGEABLE):
            raise _refusal(f"gateway.{below}")
        found.extend(_changes(value, below))
    return found


def _refusal(path: str) -> Problem:
    known = ", ".join(f"gateway.{each}" for each in CHANGEABLE)
    return Problem(422, f"{path} can't be changed while the gateway runs; these can: {known}.")


def _path_of(name: str) -> str:
    return next((f"gateway.{path}" for path, each in CHANGEABLE.items() if each == name), name)
