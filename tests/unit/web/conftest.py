"""What tests of spans begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.sampling import Sampler

from tests.unit.web.traced import Trace, Traced


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    made: list[Traced] = []

    def traced(sampler: Sampler | None = None, *, content: bool = False) -> Traced:
        made.append(Traced(tmp_path, sampler, content=content))
        return made[-1]

    yield traced
    for each in made:
        each.close()
