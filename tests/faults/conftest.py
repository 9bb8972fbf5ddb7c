from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.acceptance.conftest import _running as running
from tests.acceptance.conftest import pytest_runtest_makereport, worker_class
from tests.faults.world import FaultyGateway, Place

STORES = ("sqlite", "postgres")

__all__ = ["pytest_runtest_makereport", "worker_class"]


def place_on(store: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    """Return a folder with a database of its own."""
    if store == "sqlite":
        return Place(folder, store, "")
    url: sa.URL = request.getfixturevalue("postgres_url")
    return Place(folder, store, url.render_as_string(hide_password=False))


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place on each kind of database in turn."""
    return place_on(request.param, tmp_path, request)


@pytest.fixture
def sqlite_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_on("sqlite", tmp_path, request)


@pytest.fixture
def postgres_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_on("postgres", tmp_path, request)


class Started:
    """Starts gateways that end with the test, and whose log a failure shows."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __call__(self, gateway: FaultyGateway) -> FaultyGateway:
        """Start a gateway and return it."""
        self.later(gateway).start()
        return gateway

    def later(self, gateway: FaultyGateway) -> FaultyGateway:
        """Return a gateway that the test starts itself."""
        running.append(gateway)
        self._stack.callback(running.remove, gateway)
        self._stack.callback(gateway.kill)
        return gateway

    def close(self) -> None:
        """End them all."""
        self._stack.close()


@pytest.fixture
def started() -> Iterator[Started]:
    starting = Started()
    yield starting
    starting.close()
