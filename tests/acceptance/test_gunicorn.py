"""gunicorn by itself, without the ``sessiond`` command."""

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.gateway import (
    GUNICORN,
    ExecutedGateway,
    RunningGateway,
    check_log,
    environment,
)


@pytest.mark.parametrize("kind", [ExecutedGateway, RunningGateway])
def test_plain_gunicorn_serves_as_the_command_does(
    tmp_path: Path, kind: type[RunningGateway]
) -> None:
    with kind(tmp_path) as gateway:
        answer = gateway.post("/sessions/plain/messages", {"text": "hello there"})
        assert answer.body == {"ok": True, "response": "hello there", "sessionKey": "plain"}
        arguments = Path(f"/proc/{gateway.pid}/cmdline")
        if arguments.exists():  # the command has become the very same process
            told = arguments.read_bytes().decode().split("\0")[1:-1]
            assert told == [*map(str, GUNICORN[1:]), "web.wsgi:app"]
        gateway.terminate()
    check_log(tmp_path)


def test_preloading_is_refused_because_a_worker_starts_its_own_threads(tmp_path: Path) -> None:
    refused = subprocess.run(
        [*GUNICORN, "--preload", "web.wsgi:app"],
        cwd=tmp_path,
        env=environment({"port": 0}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert refused.returncode != 0
    assert "leave out --preload" in refused.stderr + refused.stdout
