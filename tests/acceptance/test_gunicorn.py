"""gunicorn by itself, without the ``sessiond`` command."""

import subprocess
import sys
from pathlib import Path

from tests.acceptance.gateway import RunningGateway, check_log, environment

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "web" / "gunicorn_conf.py"
GUNICORN = (sys.executable, "-m", "gunicorn", "-c", CONFIGURATION)


class PlainGunicorn(RunningGateway):
    command = (*GUNICORN, "web.wsgi:app")


def test_plain_gunicorn_serves_as_the_command_does(tmp_path: Path) -> None:
    with PlainGunicorn(tmp_path) as gateway:
        answer = gateway.post("/sessions/plain/messages", {"text": "hello there"})
        assert answer.body == {"ok": True, "response": "hello there", "sessionKey": "plain"}
        assert gateway.terminate() < 10
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
