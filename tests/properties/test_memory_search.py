"""Search in a database against the formula, over random rows and queries."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from persistence.records import EpisodeRow, MemoryRow, Row
from tests.integration.memory_store import (
    MemoryStore,
    PostgresMemoryStore,
    SqliteMemoryStore,
)
from tests.postgres.server import PostgresServer
from tests.properties import search_model

DAY_MS = 86_400_000
NOW_MS = 400 * DAY_MS

# Few words, and such as are parts of one another, or alike but for a mark or a joiner.
WORDS = """
    tea teatime art party parts foo bar foo-bar c++ c .net net naïve naive café cafe\u0301 ß ss é
    s1 s2 fact secret core user 日本 日本語 本 語の先生 の カ゛ス ガス Київ київ কি कि की क ไทย
    ภาษา ขํ ខ្មែរ 私の好きな お茶です ลาว ລາວ မြန်မာ tower2階 한국 مرحبا مُرحبا 🙂 1 42 ² ﬁve a_b
"""
vocabulary = st.sampled_from(WORDS.split())
between = st.sampled_from(
    ["", " ", " ", " ", " ", "-", ".", ", ", "、", "\0", '"', "(", " AND ", "*"]
)
texts = st.lists(st.tuples(vocabulary, between), min_size=1, max_size=6).map(
    lambda parts: "".join(itertools.chain.from_iterable(parts))
)
times = st.sampled_from([0, 1, DAY_MS, 300 * DAY_MS, 399 * DAY_MS, NOW_MS, NOW_MS + DAY_MS])
memories = st.builds(
    MemoryRow,
    st.just(0),
    st.sampled_from(["core", "archival"]),
    st.sampled_from(["fact", "secret", "profile"]),
    texts,
    texts,
    st.just("manual"),
    st.sampled_from([True, True, True, False]),
    times,
    times,
)
episodes = st.builds(
    EpisodeRow,
    st.just(0),
    st.just("k"),
    st.just("s"),
    st.sampled_from(["user", "assistant"]),
    texts,
    times,
)


def numbered(rows: list[MemoryRow], said: list[EpisodeRow]) -> list[Row]:
    """Give each row its id; of the memories of one key only the last stays active."""
    last = {row.key: number for number, row in enumerate(rows, start=1) if row.active}
    found: list[Row] = [
        MemoryRow(
            number,
            *(getattr(row, name) for name in MemoryRow.__struct_fields__[1:6]),
            row.active and last[row.key] == number,
            row.created_at,
            row.updated_at,
        )
        for number, row in enumerate(rows, start=1)
    ]
    return [
        *found,
        *(
            EpisodeRow(number, row.session_key, row.session_id, row.role, row.text, row.at)
            for number, row in enumerate(said, start=1)
        ),
    ]


row_lists = st.builds(numbered, st.lists(memories, max_size=6), st.lists(episodes, max_size=4))


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    store = SqliteMemoryStore(tmp_path_factory.mktemp("search") / "log.db")
    yield store
    store.close()


@pytest.fixture(scope="module")
def postgresql(postgres: PostgresServer) -> Iterator[MemoryStore]:
    with postgres.database() as url:
        store = PostgresMemoryStore(url)
        yield store
        store.close()


def searching(examples_max: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have a test do ``search`` with random rows and queries, so many times."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        how = settings(
            max_examples=examples_max,
            deadline=None,
            # to shrink takes minutes of commits
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        )
        given_rows = given(
            earlier=row_lists,
            rows=row_lists,
            queries=st.lists(texts, min_size=1, max_size=5),
            limit=st.integers(1, 12),
            secrets=st.booleans(),
        )
        nothing = numbered([], [])
        first = example(earlier=nothing, rows=nothing, queries=[""], limit=4, secrets=True)
        return how(given_rows(first(test)))

    return decorate


@searching(150)
def test_a_search_in_sqlite_finds_what_the_formula_finds(sqlite: MemoryStore, **drawn: Any) -> None:
    search(sqlite, **drawn)


@searching(40)
def test_a_search_in_postgresql_finds_what_the_formula_finds(
    postgresql: MemoryStore, **drawn: Any
) -> None:
    search(postgresql, **drawn)


def search(
    store: MemoryStore,
    earlier: list[Row],
    rows: list[Row],
    queries: list[str],
    limit: int,
    secrets: bool,
) -> None:
    stream = store.new_stream()
    stream.write(*earlier)
    stream.rebuild(*rows)
    rows = [store.stored(row) for row in rows]
    assert stream.rows() == rows
    texts_too = [row.content if isinstance(row, MemoryRow) else row.text for row in rows]
    for query in ["", *queries, *texts_too]:
        found = stream.search(query, limit=limit, now_ms=NOW_MS, secrets=secrets)
        expected = search_model.search(rows, query, limit=limit, now_ms=NOW_MS, secrets=secrets)
        assert found == expected, query
        assert {type(hit.score) for hit in found} <= {float}
    store.check_index()
