"""What keeps a command to its workspace: bubblewrap where it works, else Landlock, else nothing."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from actors.tools._bubblewrap import Bubblewrap, binaries
from actors.tools._command import SandboxFailed, run_command
from actors.tools._confinement import Launch, Settings
from actors.tools._landlock import LandlockSandbox, Unconfined
from actors.tools.base import Cancellation

SandboxName = Literal["bubblewrap", "landlock", "none"]

TRIAL_S = 10.0
TRIAL = "cat ../outside && exit 1; echo works > made"
"""Run in a workspace beside a file that a command must not be able to read."""

logger = logging.getLogger(__name__)

__all__ = ["Launch", "Sandbox", "SandboxName", "SandboxUnavailable", "Settings", "probe"]


class SandboxUnavailable(Exception):
    """The sandbox that the settings ask for does not work here."""


class Sandbox(Protocol):
    """Makes a shell command into one that can't leave its workspace."""

    @property
    def name(self) -> SandboxName:
        """Tell which one it is."""

    def command(self, text: str, workspace: Path) -> Launch:
        """Return how to run it there. Raises OSError; the launch is to be started, once."""


def probe(settings: Settings) -> Sandbox:
    """Return the best sandbox that works here, by trying: call it once, at the start.

    Blocks for about 0.1 s, TRIAL_S at worst for each that hangs. Raises SandboxUnavailable where
    the settings name one that doesn't work; only ``auto`` may end up with none.
    """
    for sandbox in _wanted(settings):
        if sandbox.name == "none" or works(sandbox):
            return sandbox
    if settings.sandbox != "auto":
        raise SandboxUnavailable(f"The sandbox {settings.sandbox!r} does not work here.")
    logger.warning("No sandbox works here; commands would run with the gateway's own rights.")
    return Unconfined(settings)


def works(sandbox: Sandbox) -> bool:
    """Tell whether a command runs in it, can write in its workspace and can't read beside it."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as name:
        workspace = Path(name, "workspace")
        workspace.mkdir()
        Path(name, "outside").write_text("readable")
        try:
            launch = sandbox.command(TRIAL, workspace)
            ended = run_command(launch, _Nowhere(), timeout_s=TRIAL_S, cancellation=Cancellation())
        except (OSError, SandboxFailed) as error:
            logger.info("The sandbox %s does not work here: %s", sandbox.name, error)
            return False
        return ended.exit_code == 0 and Path(workspace, "made").exists()


def _wanted(settings: Settings) -> Iterator[Sandbox]:
    """Yield the sandboxes that the settings allow, the best first."""
    wanted = settings.sandbox
    if wanted in ("auto", "bubblewrap"):
        for binary in binaries():
            yield Bubblewrap(binary, settings)
    if wanted in ("auto", "landlock"):
        yield LandlockSandbox(settings)
    if wanted == "none":
        yield Unconfined(settings)


class _Nowhere:
    """Takes output and forgets it. Implements Sink."""

    def add(self, chunk: bytes) -> bool:
        return bool(chunk)

    def tick(self) -> None:
        """Nothing is ever due."""
