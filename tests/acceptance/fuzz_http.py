"""Requests made up from the OpenAPI document: ``make fuzz``, not part of ``make test``."""

import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import check_log

COMMAND = Path(sys.executable).with_name("schemathesis")
TOKEN = "token-of-the-fuzzer"
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "50")
ENDLESS = (
    "/sessions/{key}/events",
    "/sessions/{key}/chat/stream",
    "/sessions/{key}/log",
    "/sessions/{key}/replay",
    "/log",
)
NOT_OURS = (
    "negative_data_rejection",  # as the contract has it, text that is no text counts as missing
    "positive_data_acceptance",  # JSON Schema can't say that U+0000 is refused
    "unsupported_method",  # a wrong method on a fixed path is 404, as in the contract
)
DEADLINE_S = 1_800


def test_no_request_breaks_the_gateway_or_is_answered_against_the_document(
    open_gateway: OpenGateway,
) -> None:
    with open_gateway(
        token=TOKEN, webhook_secret="hook", openai_endpoint=True, demo_delay_ms=0
    ) as gateway:
        excluded = [word for path in ENDLESS for word in ("--exclude-path", path)]
        done = subprocess.run(
            [
                *(COMMAND, "run", f"{gateway.url}/openapi.json", "--no-color"),
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--max-examples", EXAMPLES, "--request-timeout", "10"),
                *("--exclude-checks", ",".join(NOT_OURS), *excluded),
            ],
            cwd=gateway.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
        assert "Traceback" not in gateway.log
        check_log(gateway.folder)
