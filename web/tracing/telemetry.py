"""Whether this process tells a collector what its runs do; nothing of it is loaded otherwise."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol

from actors.runs.tracing import NO_TRACER, Tracer
from web.settings import ENV_PREFIX, Settings, SettingsError

NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
"""What the extra ``otel`` brings."""

DISABLED = "OTEL_SDK_DISABLED"
SERVICE_NAME = "OTEL_SERVICE_NAME"
METRICS_EXPORTER = "OTEL_METRICS_EXPORTER"
"""Variables of OpenTelemetry's own that the SDK is not asked about here."""


class Telemetry(Protocol):
    """Where a process's traces go."""

    tracer: Tracer

    def close(self, timeout_s: float) -> None:
        """Send what is left; blocks for so long at most."""


class _Off:
    """Traces go nowhere. Implements Telemetry."""

    tracer = NO_TRACER

    def close(self, timeout_s: float) -> None:
        """There is nothing left."""


def check_telemetry(settings: Settings) -> None:
    """Raise SettingsError where traces are wanted and can't be made."""
    if settings.otel_endpoint is not None and not all(map(_is_there, NEEDED)):
        raise SettingsError(
            f"{ENV_PREFIX}OTEL_ENDPOINT needs OpenTelemetry: install sessiond[otel], "
            "or leave the setting out."
        )


def make_telemetry(
    settings: Settings, instance: str, environment: Mapping[str, str] = os.environ
) -> Telemetry:
    """Return where traces go by the settings; starts threads where that is anywhere.

    ``environment`` holds OpenTelemetry's own variables. Raises SettingsError.
    """
    check_telemetry(settings)
    if settings.otel_endpoint is None or environment.get(DISABLED, "").strip().lower() == "true":
        return _Off()
    from web.tracing.otlp import Otlp

    return Otlp(
        settings.otel_endpoint,
        service_name(settings, environment),
        instance,
        content=settings.otel_content,
        metrics=environment.get(METRICS_EXPORTER, "").strip().lower() != "none",
    )


def service_name(settings: Settings, environment: Mapping[str, str]) -> str:
    """Return what the gateway is called: by its own setting, then by OpenTelemetry's variable."""
    if "otel_service_name" in settings.model_fields_set:
        return settings.otel_service_name
    return environment.get(SERVICE_NAME) or settings.otel_service_name


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
