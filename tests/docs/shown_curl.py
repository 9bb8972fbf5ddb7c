"""Lines with curl, run as documents show them."""

import re
import subprocess
from threading import Timer

from tests.acceptance.gateway import DEADLINE_S


def curled(line: str, *, last: str = "") -> str:
    """Run a line and return what came; of a stream that never ends, up to ``last``."""
    command = re.sub(r"\bcurl\b", "exec curl -sS", line, count=1)
    with subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        deadline = Timer(DEADLINE_S, process.kill)
        deadline.start()
        gathered = ""
        for part in process.stdout:
            gathered += part
            if last and last in gathered:
                process.terminate()
                break
        status = process.wait()
        deadline.cancel()
        assert last in gathered, gathered
        assert last or status == 0, process.stderr.read()
    return gathered
