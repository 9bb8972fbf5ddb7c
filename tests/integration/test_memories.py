"""Memories in a database: what is found, in which order, and what is left when it goes."""

import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from persistence.errors import StoreUnavailableError
from persistence.memories import EPISODES_KEPT, MemoryCounts
from persistence.records import Append, Claim, EpisodeRow, MemoryRow, Reproject, Row
from tests.integration.memory_store import (
    DATABASES,
    INDEXES,
    SUMMARY,
    MemoryStore,
    MemoryStream,
    PostgresMemoryStore,
    SqliteMemoryStore,
)
from tests.properties import search_model

RECORDED = Path(__file__).parents[3] / "shared/reference/memory.json"
DAY_MS = 86_400_000


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteMemoryStore]:
    store = SqliteMemoryStore(tmp_path / "log.db")
    yield store
    store.check_index()
    store.close()


@pytest.fixture
def postgresql(postgres_url: sa.URL) -> Iterator[PostgresMemoryStore]:
    store = PostgresMemoryStore(postgres_url)
    yield store
    store.check_index()
    store.close()


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest) -> MemoryStore:
    found: MemoryStore = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def stream(store: MemoryStore) -> MemoryStream:
    return store.new_stream()


def memory(
    memory_id: int,
    content: str,
    *,
    key: str = "",
    kind: str = "fact",
    bucket: str = "archival",
    active: bool = True,
    updated_at: int = 0,
) -> MemoryRow:
    key = key or f"k{memory_id}"
    return MemoryRow(memory_id, bucket, kind, key, content, "manual", active, 0, updated_at)


def episode(episode_id: int, text: str, *, role: str = "user", at: int = 0) -> EpisodeRow:
    return EpisodeRow(episode_id, "web:main", "session 1", role, text, at)


def found(stream: MemoryStream, query: str, **how: Any) -> list[int]:
    return [hit.row.id for hit in stream.search(query, **how)]


# What is found first

SCRIPTS = (
    "naï çé šo ñu œl ßa áž ög ít ûm ën àk ôp ìv ÿz ðe þo łi ők ęs",
    "ré vüg tõl sån jép kîm pøl dùn żar hên",
    "日 月 火 水 木 金 土 山 川 田 人 口 目 耳 手 足 力 石 竹 糸",
    "あ い う え お カ キ ク ケ コ",
    "ки мо св за по де ру жи щу ёл хо бы те ня гю це фа эх ша ї",
    "їв ква лод гул рек сор вет нок пта чок",
    "مر بي تو جد حك دل ره سف شق صم طن عي فا قو كه لب نم هز وش يث",
    "حبا زون كلت موس نار لين هدى واد يوم غيم",
    "हिन् की मे ना रा सु वि पा गो दू जी बे ला तौ क्ष छो ठै झृ ऐ घं",
    "दी खी टा डे णु थो भि शा षा हृ",
)
"""Of each of five scripts twenty ways to begin a word and ten to end it."""


def a_thousand() -> list[tuple[str, str]]:
    """Return contents and what to ask: each two words, which its neighbours hold one of."""
    made = []
    for begins, ends in zip(SCRIPTS[::2], SCRIPTS[1::2], strict=True):
        names = [begin + end for begin in begins.split() for end in ends.split()]
        pairs = zip(names, [*names[1:], names[0]], strict=True)
        made += [(f"… {one}、{other} 2024", f"{other} {one}") for one, other in pairs]
    assert len({content for content, _ in made}) == 1_000
    return made


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_of_a_thousand_memories_in_five_scripts_each_is_found_first(
    sqlite: SqliteMemoryStore, form: Any
) -> None:
    """The oldest as well as the newest, however either was typed."""
    _finds_each_first(sqlite.new_stream(), form, step=1)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_postgresql_finds_each_of_them_first_as_well(
    postgresql: PostgresMemoryStore, form: Any
) -> None:
    """Of each fiftieth, as an answer takes a while to come."""
    _finds_each_first(postgresql.new_stream(), form, step=51)


def _finds_each_first(stream: MemoryStream, form: Any, *, step: int) -> None:
    made = a_thousand()
    stream.rebuild(
        *(memory(n, content, updated_at=n * DAY_MS) for n, (content, _) in enumerate(made, 1))
    )
    for number, (_, query) in list(enumerate(made, 1))[::step]:
        first, *_ = stream.search(normalize(form, query), limit=3, now_ms=1_000 * DAY_MS)
        assert first.row.id == number, query


def test_many_newer_weak_matches_never_push_out_the_best(stream: MemoryStream) -> None:
    weak = [memory(n, f"green tea number {n}", updated_at=900 * DAY_MS) for n in range(2, 800)]
    said = [episode(n, f"more tea, glass {n}", at=900 * DAY_MS) for n in range(1, 800)]
    stream.rebuild(memory(1, "jasmine tea from the market"), *weak, *said)
    for limit in (1, 4, 12):
        hits = stream.search("jasmine tea", limit=limit, now_ms=900 * DAY_MS)
        assert len(hits) == limit
        assert (hits[0].row.id, hits[0].score) == (1, 16 + 10 + 24 + 14)
        assert all(hit.score == 10 + 8 for hit in hits[1:])


def test_of_equal_scores_the_newest_comes_first_then_the_highest_id(stream: MemoryStream) -> None:
    stream.write(*(memory(n, "tea", updated_at=n % 3) for n in range(1, 7)))
    # All are so old that nothing is left for being new.
    assert found(stream, "tea", limit=9, now_ms=900 * DAY_MS) == [5, 2, 4, 1, 6, 3]
    assert found(stream, "tea", limit=2, now_ms=900 * DAY_MS) == [5, 2]


def test_secrets_and_core_memories_and_answers_come_before_the_rest(stream: MemoryStream) -> None:
    stream.write(
        memory(1, "tea"),
        memory(2, "tea", bucket="core"),
        memory(3, "tea", kind="secret", bucket="core"),
        episode(1, "tea"),
        episode(2, "tea", role="assistant"),
    )
    scores = [hit.score - (10 + 24 + 14 + 8) for hit in stream.search("tea", limit=9)]
    assert scores == [6, 3, 1, 0, 0]


def test_without_words_the_newest_rows_are_found_and_score_1(stream: MemoryStream) -> None:
    stream.write(
        memory(1, "old", updated_at=1),
        memory(2, "gone", updated_at=9, active=False),
        memory(3, "pin", kind="secret", updated_at=8),
        memory(4, "tea", updated_at=3),
        episode(1, "older", at=2),
        episode(2, "newer", at=4),
    )
    for query in ("", " \n", "a", "?!", "🙂", '"', "-_-"):
        hits = stream.search(query, now_ms=900 * DAY_MS)
        assert [(type(hit).__name__, hit.row.id) for hit in hits] == [
            ("MemoryHit", 3),
            ("EpisodeHit", 2),
            ("MemoryHit", 4),
            ("EpisodeHit", 1),
        ]
        assert {hit.score for hit in hits} == {1.0}
        assert found(stream, query, limit=2, secrets=False) == [2, 4]


# What is not found


def test_a_part_of_a_word_finds_nothing(stream: MemoryStream) -> None:
    stream.write(memory(1, "the party starts, naïvely, with strawberries"), memory(2, "Київська"))
    for query in ("art", "part", "parties", "naïve", "berries", "star", "tart", "Київ"):
        assert found(stream, query) == []
    assert found(stream, "party") == [1]


def test_what_is_no_text_of_a_row_finds_nothing(stream: MemoryStream) -> None:
    stream.write(
        memory(1, "tea", kind="preference", bucket="core"),
        memory(2, "milk", kind="secret", bucket="archival"),
        episode(1, "sugar", role="assistant"),
        episode(2, "honey", role="user"),
    )
    for query in (
        "core archival preference secret fact profile manual memory episode",
        "assistant user web:main session web main role",
        f"s{stream.head.row}",
    ):
        assert found(stream, query) == []


def test_only_active_memories_are_found(store: MemoryStore, stream: MemoryStream) -> None:
    stream.write(memory(1, "likes tea", key="drink"), memory(2, "green tea"))
    stream.write(
        memory(1, "likes tea", key="drink", active=False), memory(3, "tea no more", key="drink")
    )
    assert found(stream, "likes") == []
    assert sorted(found(stream, "tea")) == [2, 3]
    assert store.count("memory_index") == 2
    stream.write(
        memory(3, "tea no more", key="drink", active=False), memory(1, "likes tea", key="drink")
    )
    assert found(stream, "likes") == [1]


def test_changed_text_is_found_by_its_new_words_only(stream: MemoryStream) -> None:
    stream.write(memory(1, "likes tea"), episode(1, "a cup of tea"))
    stream.write(memory(1, "likes coffee"), episode(1, "a cup of coffee"))
    assert stream.search("tea") == []
    assert len(stream.search("coffee")) == 2


def test_secrets_are_as_if_they_were_not_there_for_those_who_may_not_see_them(
    stream: MemoryStream,
) -> None:
    stream.write(memory(1, "door code 4711", kind="secret"), memory(2, "the door is red"))
    assert found(stream, "door code") == [1, 2]
    assert found(stream, "door code", limit=1, secrets=False) == [2]
    assert found(stream, "4711", secrets=False) == []
    assert found(stream, "", limit=1, secrets=False) == [2]


def test_a_stream_finds_nothing_of_another(store: MemoryStore) -> None:
    # From 1 on, so that one stream's name begins as another's does.
    streams = [store.new_stream() for _ in range(12)]
    for number, stream in enumerate(streams):
        stream.write(memory(1, f"tea of {number}", key="tea"), episode(1, f"tea of {number}"))
    for number, stream in enumerate(streams):
        texts = [
            row.content if isinstance(row, MemoryRow) else row.text
            for row in (hit.row for query in ("tea", "") for hit in stream.search(query, limit=99))
        ]
        assert texts == [f"tea of {number}"] * 4
        other = str((number + 1) % len(streams) + 100)
        assert stream.search(other) == []
    streams[0].rebuild()
    assert [len(stream.search("tea")) for stream in streams] == [0] + [2] * 11


# Whatever is asked

# fmt: off
HOSTILE = (
    '"', '""', '" OR "tea', "tea AND milk", "tea OR milk", "NOT tea", "tea NOT milk", "te*", "tea*",
    "NEAR(tea milk)", "NEAR(tea milk, 2)", '"tea" *', "^tea", "text:tea", "text : tea", "stream:s1",
    "{text} : tea", "- stream : tea", "s1", "s1 tea", "(", ")", "(" * 5_000, "tea + milk", "|tea|",
    "tea-milk", "'; DROP TABLE memories; --", "tea\0milk", "\0", "\ud800", "tea \udfff", "🙂", "%",
    "tea🙂milk", "tea%", "_", "\\", "\\x00", "|", "tea|milk", "$[0]", "?1", ":asked", "a b c d e f",
    "tea" * 2_000, "tea " * 5_000, "日" * 4_000, "日本" * 300, "é" * 10_000, "ﷺ" * 4_000,
    "tea." * 900, "\u0301" * 5_000, "x" * 1_000_000, ". " * 9_000,
    " ".join(f"word{n}" for n in range(5_000)),
    " ".join(["milk", *(f"word{n}" for n in range(500)), "tea"]),
)
# fmt: on


TEXTS = (
    "tea milk",
    "tea|milk",
    "tea\0milk",
    'say "tea"',
    "日本",
    "tea",
    "s1",
    "not near or and",
    "",
)


def _answers_by_the_formula(store: MemoryStore, *queries: str) -> None:
    written: list[Row] = [
        *(memory(n, text, updated_at=n) for n, text in enumerate(TEXTS, 1)),
        *(episode(n, text, at=n) for n, text in enumerate(TEXTS, 1)),
    ]
    stream = store.new_stream()
    stream.write(*written)
    rows = [store.stored(row) for row in written]
    how: dict[str, Any] = {"limit": 99, "now_ms": 99, "secrets": True}
    for query in queries:
        hits = stream.search(query, **how)
        assert hits == search_model.search(rows, query, **how), query[:99]
        assert {type(hit.score) for hit in hits} <= {float}


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_no_query_is_more_than_its_words(sqlite: SqliteMemoryStore, query: str) -> None:
    _answers_by_the_formula(sqlite, query)


def test_no_query_is_more_than_its_words_to_postgresql(postgresql: PostgresMemoryStore) -> None:
    _answers_by_the_formula(postgresql, *HOSTILE)


def test_what_postgresql_cannot_hold_is_replaced_and_separates_words(
    postgresql: PostgresMemoryStore,
) -> None:
    """It would fail with all that is written with it."""
    stream = postgresql.new_stream()
    stream.write(memory(1, "tea\0milk", key="a\0b"), episode(1, "sugar\0honey"))
    assert stream.rows() == [
        memory(1, "tea\ufffdmilk", key="a\ufffdb"),
        episode(1, "sugar\ufffdhoney"),
    ]
    assert found(stream, "milk tea") == found(stream, "honey\0sugar") == [1]
    assert postgresql.memories.by_key(stream.head.row, "a\0b") == stream.rows()[0]
    stream.rebuild(memory(1, "tea\0milk"))
    assert found(stream, "tea") == [1]


def test_a_query_is_cut_after_32_words(stream: MemoryStream) -> None:
    stream.write(memory(1, "first"), memory(32, "last"), memory(33, "beyond"))
    fill = [f"w{n}" for n in range(30)]
    assert sorted(found(stream, " ".join(["first", *fill, "last", "beyond"]))) == [1, 32]


# What was recorded


@pytest.mark.skipif(not RECORDED.exists(), reason="needs the recorded answers of the reference")
def test_scores_are_the_recorded_ones(store: MemoryStore) -> None:
    recorded = json.loads(RECORDED.read_text())
    before, after = _recorded_rows(recorded)
    compared = 0
    for name, entry in recorded.items():
        if not name.startswith("search"):
            continue
        limit = {"search limit 1": 1, "search limit 0 -> 1": 1, "search limit 2.7": 2}.get(name, 4)
        stream = store.new_stream()
        if name not in ("search empty query", "search no body"):  # asked before anything was there
            stream.write(*(after if name == "search after prompt" else before))
        results = entry["body"]["results"]
        hits = stream.search(entry["body"]["query"], limit=limit, now_ms=_asked_at(results))
        assert [(hit.row.id, hit.score) for hit in hits] == [
            (result["id"], result["score"]) for result in results
        ], name
        compared += len(results)
    assert compared == 22


def _recorded_rows(
    recorded: dict[str, Any],
) -> tuple[list[MemoryRow], list[MemoryRow | EpisodeRow]]:
    """Return the rows before anything was forgotten, and those at the end."""
    updated = {1: 1795327808906, 11: 1795327808956}
    for entry in recorded.values():
        answer = entry["body"].get("memory") if isinstance(entry, dict) else None
        if answer and "id" in answer:
            updated[answer["id"]] = answer["updatedAt"]
    after = [
        MemoryRow(
            memory_id, bucket, kind, key, content, source, bool(active), 0, updated[memory_id]
        )
        for memory_id, bucket, kind, key, content, _, source, active, _ in recorded["rows"]
    ]
    before = [replace(row, active=row.active or row.id in (1, 3)) for row in after if row.id < 11]
    said = [
        EpisodeRow(episode_id, key, "id", role, text, 1795327808952 + episode_id)
        for episode_id, key, role, text, _ in recorded["episodes"]
    ]
    return before, [*after, *said]


def _asked_at(results: list[dict[str, Any]]) -> int:
    """Return when the reference was asked: its scores tell, of which a day costs 1/14."""
    if not results:
        return 0
    score, timestamp = results[0]["score"], results[0]["timestamp"]
    return round(timestamp + (math.ceil(score) - score) * 14 * DAY_MS)


# Reading


def test_memories_are_read_by_key_and_by_id(store: MemoryStore, stream: MemoryStream) -> None:
    other = store.new_stream()
    old, new = memory(1, "a", key="日本語", active=False), memory(2, "b", key="日本語")
    stream.write(old, new)
    other.write(memory(3, "c", key="naïve"))
    read, row = store.memories, stream.head.row
    assert read.by_key(row, "日本語") == new
    assert read.by_key(row, "naïve") is None
    assert read.by_key(row, "") is None
    assert [read.by_id(row, memory_id) for memory_id in (0, 1, 2, 3)] == [None, old, new, None]


def test_core_memories_are_read_newest_update_first(
    store: MemoryStore, stream: MemoryStream
) -> None:
    stream.write(
        memory(1, "a", bucket="core", updated_at=5),
        memory(2, "b", bucket="core", updated_at=9, kind="secret"),
        memory(3, "c", bucket="core", updated_at=5),
        memory(4, "d", updated_at=9),
        memory(5, "e", bucket="core", updated_at=99, active=False),
    )
    assert [row.id for row in store.memories.core(stream.head.row)] == [2, 3, 1]


def test_of_many_memories_only_the_core_ones_are_read_for_core(sqlite: SqliteMemoryStore) -> None:
    row = sqlite.new_stream().head.row
    plan = sqlite.plan_of(lambda: sqlite.memories.core(row))
    assert "USING INDEX ix_memories_core (stream=?)" in plan
    assert "ORDER BY" not in plan


def test_postgresql_reads_core_memories_and_what_a_search_finds_by_their_indexes(
    postgresql: PostgresMemoryStore,
) -> None:
    streams = [postgresql.new_stream() for _ in range(3)]
    texts = [content for content, _ in a_thousand()]
    for stream in streams:
        rows = [memory(n, text) for n, text in enumerate(texts, 1)]
        stream.rebuild(*rows, *(episode(n, text) for n, text in enumerate(texts, 1)))
    postgresql.run("ANALYZE")
    stream = streams[1]
    plan = postgresql.plan_of(lambda: postgresql.memories.core(stream.head.row))
    assert "Index Scan Backward using ix_memories_core" in plan
    _, query = a_thousand()[500]
    plan = postgresql.plan_of(lambda: stream.search(query))
    for name in INDEXES:
        assert f"Bitmap Index Scan on ix_{name}_pieces" in plan
        assert f"Seq Scan on {name}" not in plan


def test_an_empty_stream_counts_nothing(store: MemoryStore, stream: MemoryStream) -> None:
    store.new_stream().write(memory(7, "of another"), episode(7, "of another"))
    expected = MemoryCounts(0, 0, 0, None, 0, 0, None, 0)
    assert store.memories.counts(stream.head.row) == expected


def test_counts_are_of_active_rows_times_and_ids_of_all(
    store: MemoryStore, stream: MemoryStream
) -> None:
    stream.write(
        memory(1, "a", bucket="core", updated_at=5),
        memory(2, "b", updated_at=6),
        memory(3, "c", updated_at=7),
        memory(5, "d", updated_at=99, active=False),
        episode(1, "a", at=50),
        episode(2, "b", at=40),
    )
    assert store.memories.counts(stream.head.row) == MemoryCounts(
        core=1,
        archival=2,
        memory_rows=4,
        last_memory_write_at=99,
        last_memory_id=5,
        episode_rows=2,
        last_episode_at=50,
        last_episode_id=2,
    )


# What goes leaves nothing


def test_old_episodes_leave_the_index_too_and_ids_go_on(
    store: MemoryStore, stream: MemoryStream
) -> None:
    other = store.new_stream()
    other.write(episode(1, "first"))
    said = [episode(n, f"number{n}") for n in range(3, EPISODES_KEPT + 1)]
    stream.rebuild(episode(1, "first"), episode(2, "second"), memory(1, "first"), *said)
    stream.write(episode(EPISODES_KEPT + 1, "the last one"))
    assert store.count("episode_index") == store.count("episodes") == EPISODES_KEPT + 1
    assert [hit.row for hit in stream.search("first second")] == [
        episode(2, "second"),
        memory(1, "first"),
    ]
    assert len(other.search("first")) == 1
    counts = store.memories.counts(stream.head.row)
    assert (counts.episode_rows, counts.last_episode_id) == (EPISODES_KEPT, EPISODES_KEPT + 1)


def test_a_rebuild_writes_what_the_appends_wrote(store: MemoryStore, stream: MemoryStream) -> None:
    generator = random.Random(7)
    texts = [content for content, _ in a_thousand()]
    for _ in range(40):
        stream.write(
            memory(
                generator.randint(1, 30), generator.choice(texts), active=generator.random() < 0.8
            ),
            episode(generator.randint(1, 30), generator.choice(texts)),
        )
    asked = texts[::20]
    rows, answers = stream.rows(), [stream.search(text, limit=99) for text in asked]
    assert any(answers)
    stream.rebuild(*rows)
    assert stream.rows() == rows
    assert [stream.search(text, limit=99) for text in asked] == answers
    stream.rebuild()
    assert (stream.rows(), stream.search("2024")) == ([], [])
    assert [store.count(name) for name in INDEXES] == [0, 0]


def test_a_rebuild_mends_an_index(sqlite: SqliteMemoryStore) -> None:
    stream = sqlite.new_stream()
    stream.write(memory(1, "tea"), memory(2, "milk"), memory(3, "sugar"), episode(1, "tea"))
    with sqlite.raw() as connection:
        connection.execute("UPDATE memory_index SET text = '|honey|' WHERE rowid = 1")
        connection.execute("DELETE FROM memory_index WHERE rowid = 2")
        connection.execute(f"INSERT INTO memory_index VALUES ('s{stream.head.row}', '|stray|')")
    _mended(stream)


def test_a_rebuild_mends_postgresqls_index(postgresql: PostgresMemoryStore) -> None:
    stream = postgresql.new_stream()
    stream.write(memory(1, "tea"), memory(2, "milk"), memory(3, "sugar"), episode(1, "tea"))
    own = f"|{stream.head.row}"
    postgresql.run(f"UPDATE memory_index SET pieces = '{{{own},honey}}' WHERE row = 1")
    postgresql.run("DELETE FROM memory_index WHERE row = 2")
    _mended(stream)


def _mended(stream: MemoryStream) -> None:
    stream.rebuild(*(memory(n, "tea with milk") for n in range(1, 6)), episode(1, "milk"))
    assert len(stream.search("milk", limit=9)) == 6
    assert stream.search("honey") == stream.search("stray") == []


def test_a_batch_that_is_rolled_back_leaves_nothing_in_an_index(
    store: MemoryStore, stream: MemoryStream
) -> None:
    stream.write(memory(1, "tea", key="drink"))
    other = store.new_stream()
    with pytest.raises(StoreUnavailableError, match="(?i)unique"):
        store.log.write(
            [
                Append(other.head, (), SUMMARY, None, (memory(1, "lost"), episode(1, "lost"))),
                Claim("new", "me"),
                Append(stream.head, (), SUMMARY, None, (memory(2, "lost", key="drink"),)),
            ]
        )
    assert [store.count(name) for name in ("memories", "episodes", *INDEXES)] == [1, 0, 1, 0]
    assert store.log.head("new") is None
    assert other.search("lost") == stream.search("lost") == []
    store.check_index()
    stream.write(memory(1, "tea", key="drink", active=False), memory(2, "milk", key="drink"))
    assert found(stream, "milk") == [2]


def test_a_conflict_leaves_nothing_in_an_index(store: MemoryStore, stream: MemoryStream) -> None:
    other = store.new_stream()
    stale = replace(stream.head, version=3)
    outcomes = store.log.write(
        [
            Append(other.head, (), SUMMARY, None, (memory(1, "kept"), episode(1, "kept"))),
            Append(stale, (), SUMMARY, None, (memory(1, "lost"), episode(1, "lost"))),
            Reproject(stale, (memory(1, "lost"), episode(1, "lost"))),
        ]
    )
    assert outcomes[0] == other.head
    assert [store.count(name) for name in INDEXES] == [1, 1]
    assert len(other.search("kept")) == 2
    assert stream.search("lost") == []


def test_a_touched_memory_is_not_indexed_again(sqlite: SqliteMemoryStore) -> None:
    def segments() -> list[object]:
        return sqlite.run("SELECT id, block FROM memory_index_data")

    _touched(sqlite.new_stream(), segments)


def test_a_touched_memory_is_not_indexed_again_in_postgresql(
    postgresql: PostgresMemoryStore,
) -> None:
    _touched(postgresql.new_stream(), lambda: postgresql.run("SELECT xmin, ctid FROM memory_index"))


def _touched(stream: MemoryStream, written: Callable[[], list[object]]) -> None:
    stream.write(memory(1, "tea"), memory(2, "tea", active=False))
    before = written()
    assert before
    stream.write(
        replace(memory(1, "tea"), updated_at=5, last_accessed_at=5),
        replace(memory(2, "tea", active=False), last_accessed_at=5),
    )
    assert written() == before
    assert stream.search("tea")[0].row == replace(
        memory(1, "tea"), updated_at=5, last_accessed_at=5
    )
