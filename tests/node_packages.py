"""The npm packages that tests use, from a package-lock.json, once for this Python."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

INSTALL_DEADLINE_S = 180


def installed(scripts: Path) -> Path:
    """Return the folder with what a folder's package-lock.json names; skip where it can't be."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are needed")
    lock = hashlib.sha256((scripts / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = Path(sys.prefix) / f"node-{lock}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=sys.prefix) as temporary:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(scripts / name, temporary)
            done = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=temporary,
                capture_output=True,
                text=True,
                timeout=INSTALL_DEADLINE_S,
                check=False,
            )
            if done.returncode != 0:
                pytest.skip(f"npm ci failed: {done.stderr.strip().splitlines()[-1:]}")
            with suppress(OSError):  # another run was faster
                shutil.copytree(temporary, f"{folder}.{os.getpid()}")
                Path(f"{folder}.{os.getpid()}").rename(folder)
    return folder
