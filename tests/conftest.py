import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.postgres.server import PostgresServer, shared_server

MEMORY = Path("/dev/shm")
MEMORY_FREE_MIN = 4 << 30
TEMPORARY = "PYTEST_DEBUG_TEMPROOT"
"""Pytest's variable for where it makes temporary folders."""


def _is_usable(folder: Path) -> bool:
    """Tell whether there are files in memory, which may be run, and room for them."""
    if not os.access(folder, os.W_OK):
        return False
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    return free >= MEMORY_FREE_MIN and not found.f_flag & os.ST_NOEXEC


if _is_usable(MEMORY):  # thousands of commits wait for a disk otherwise; what fails shows there too
    os.environ.setdefault(TEMPORARY, str(MEMORY))

# Hundreds of processes start, and each would compile the program: a quarter of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collectstart() -> None:
    """Look for no garbage meanwhile: what is collected stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave all tests and modules out when garbage is looked for."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Leave the environment as it was: a command hands its flags on by it, also in this process."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def postgres() -> PostgresServer:
    """A PostgreSQL server, started when the first test asks for it."""
    return shared_server()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[sa.URL]:
    """A database of one's own with the newest schema."""
    with postgres.database() as url:
        yield url
