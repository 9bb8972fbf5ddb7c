"""The tool that runs a shell command in the workspace."""

import logging
import time
from typing import Any

from actors.models.base import ToolSpec
from actors.session.messages import Text
from actors.tools._command import Ended, SandboxFailed, Stopped, run_command
from actors.tools._output import OUTPUT_BYTES_MAX, Output, Seen
from actors.tools.base import Effect, ToolCancelled, ToolContext, ToolError, ToolResult
from actors.tools.sandbox import Sandbox

COMMAND_BYTES_MAX = 100_000
"""The kernel takes 128 KiB in one argument."""

DESCRIPTION = """\
Run a shell command in the workspace, where each one starts anew: a change of folder or a variable \
is gone afterwards, and so is whatever it left running. Returns what it printed, of long output \
the end; all of it is then in a file in the workspace. There is no terminal and no input."""

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "minLength": 1, "description": "The command, for bash."},
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "Seconds after which it is ended, where the usual limit is too long.",
        },
    },
    "required": ["command"],
    "additionalProperties": False,
}

_STOPPED: dict[Stopped, str] = {
    "output": f"Command stopped: it printed more than {OUTPUT_BYTES_MAX} bytes",
    "processes": "Command stopped: it had too many processes at once",
    "memory": "Command stopped: its processes took too much memory together",
}

logger = logging.getLogger(__name__)


class BashTool:
    """Runs commands in a sandbox. Implements Tool."""

    effect: Effect = "execute"

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.spec = ToolSpec("bash", DESCRIPTION, PARAMETERS)

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run. Nothing of the command still runs when this returns or raises."""
        context.cancellation.check()
        command = _checked(arguments["command"])
        timeout_s = min(
            arguments.get("timeout", context.limits.timeout_s), context.limits.timeout_s
        )
        output = Output(context.workspace, context.tool_call_id, context.limits, context.report)
        began = time.monotonic()
        try:
            launch = self._sandbox.command(command, context.workspace)
            ended = run_command(
                launch, output, timeout_s=timeout_s, cancellation=context.cancellation
            )
            seen = output.finish()
        except (OSError, SandboxFailed) as error:
            logger.warning("A sandboxed command did not run: %s", error)
            raise ToolError("The command could not be run: its sandbox failed.") from error
        finally:
            output.close()
        if ended.stopped == "cancelled":
            raise ToolCancelled
        return ToolResult(
            (Text(_text(seen, ended, timeout_s)),),
            _details(seen, ended, self._sandbox.name, time.monotonic() - began),
            is_error=ended.exit_code != 0,
        )


def _checked(command: str) -> str:
    """Return the command. Raises ToolError where no program could be given it."""
    try:
        size = len(command.encode())
    except UnicodeEncodeError:
        raise ToolError("The command is not valid text.") from None
    if "\0" in command:
        raise ToolError("The command must not contain a NUL character.")
    if size > COMMAND_BYTES_MAX:
        raise ToolError(f"The command is longer than {COMMAND_BYTES_MAX} bytes.")
    return command


def _text(seen: Seen, ended: Ended, timeout_s: float) -> str:
    """Return what the model is told."""
    parts = [_cut(seen)] if seen.truncated else []
    parts += [seen.text.rstrip("\n") or "(no output)"]
    if ended.stopped == "timeout":
        parts += [f"Command timed out after {timeout_s:g} s"]
    elif ended.stopped:
        parts += [_STOPPED[ended.stopped]]
    elif ended.exit_code:
        parts += [f"Command exited with code {ended.exit_code}"]
    return "\n\n".join(parts)


def _cut(seen: Seen) -> str:
    said = f"[This is the end of {seen.total_bytes} bytes of output."
    if not seen.file:
        return f"{said} The rest could not be kept.]"
    if seen.file_bytes < seen.total_bytes:
        return f"{said} The first {seen.file_bytes} bytes are in {seen.file}.]"
    return f"{said} All of it is in {seen.file}.]"


def _details(seen: Seen, ended: Ended, sandbox: str, took_s: float) -> dict[str, Any]:
    details = {
        "exit_code": ended.exit_code,
        "output_bytes": seen.total_bytes,
        "output_sha256": seen.sha256,
        "truncated": seen.truncated,
        "sandbox": sandbox,
        "duration_ms": round(took_s * 1000),
    }
    return details | ({"output_file": seen.file} if seen.file else {})
