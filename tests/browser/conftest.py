import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import open_gateway
from tests.node_packages import installed

__all__ = ["open_gateway"]

SCRIPTS = Path(__file__).with_name("node")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DEADLINE_S = 120.0

Browse = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def browse() -> Browse:
    """Run a script of node/ with its options; return what it reports."""
    browser = next((path for each in BROWSERS if (path := shutil.which(each))), None)
    if browser is None:
        pytest.skip("Chromium is needed")
    environment = os.environ | {"CHROMIUM": browser, "NODE_PACKAGES": str(installed(SCRIPTS))}

    def run(name: str, **options: object) -> dict[str, Any]:
        done = subprocess.run(
            ["node", SCRIPTS / name, json.dumps(options)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        reported: dict[str, Any] = json.loads(done.stdout)
        return reported

    return run
