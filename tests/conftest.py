from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.postgres.server import PostgresServer, shared_server


@pytest.fixture(scope="session")
def postgres() -> PostgresServer:
    """A PostgreSQL server, started when the first test asks for it."""
    return shared_server()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[sa.URL]:
    """A database of one's own with the newest schema."""
    with postgres.database() as url:
        yield url
