"""Whether this process tells a collector what its runs do; nothing of it is loaded otherwise."""

from importlib.util import find_spec
from typing import Protocol

from actors.runs.tracing import NO_TRACER, Tracer
from web.settings import ENV_PREFIX, Settings, SettingsError

NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
"""What the extra ``otel`` brings."""


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


def make_telemetry(settings: Settings, instance: str) -> Telemetry:
    """Return where traces go by the settings; starts threads where that is anywhere.

    Raises SettingsError.
    """
    check_telemetry(settings)
    if settings.otel_endpoint is None:
        return _Off()
    from web.otlp import Otlp

    return Otlp(
        settings.otel_endpoint, settings.otel_service_name, instance, content=settings.otel_content
    )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
