"""Questions in scripts that put no spaces between words, over memories."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from persistence.records import MemoryRow
from tests.integration.memory_store import (
    DATABASES,
    MemoryStore,
    MemoryStream,
    PostgresMemoryStore,
    SqliteMemoryStore,
)

DAY_MS = 86_400_000
NOW_MS = 400 * DAY_MS


@pytest.fixture(params=DATABASES)
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStream]:
    store: MemoryStore = (
        SqliteMemoryStore(tmp_path / "log.db")
        if request.param == "sqlite"
        else PostgresMemoryStore(request.getfixturevalue("postgres_url"))
    )
    yield store.new_stream()
    store.check_index()
    store.close()


def remember(stream: MemoryStream, *contents: str) -> None:
    """Write memories, the first of them long ago, the others today."""
    stream.write(
        *(
            MemoryRow(n, "archival", "fact", f"k{n}", content, "manual", True, 0, at)
            for n, (content, at) in enumerate(
                zip(contents, [0] + [NOW_MS] * len(contents), strict=False), 1
            )
        )
    )


def found(stream: MemoryStream, query: str, limit: int = 4) -> list[tuple[str, float]]:
    hits = stream.search(query, limit=limit, now_ms=NOW_MS)
    return [(hit.row.content, hit.score) for hit in hits if isinstance(hit.row, MemoryRow)]


QUESTIONS = {
    "Japanese": (
        "私の好きな飲み物は何ですか",
        "好きな飲み物はお茶です",
        ("私の好きな{}は{}です", "飲み物の話より{}の{}"),
        "色 花 町 本 歌 季節 動物 料理 映画 学校",
        "青 梅 京都 小説 民謡 春 犬 寿司 喜劇 大学",
    ),
    "Chinese": (
        "我最喜欢喝的饮料是什么？",
        "最喜欢的饮料是绿茶",
        ("我最喜欢的{}是{}", "喝的不是{}也不是{}"),
        "颜色 花 城市 书 歌 季节 动物 菜 电影 学校",
        "蓝色 梅花 北京 小说 民歌 春天 狗 烤鸭 喜剧 大学",
    ),
    "Thai": (
        "เครื่องดื่มที่ฉันชอบที่สุดคืออะไร",
        "ชอบดื่มเครื่องดื่มชาเย็น",
        ("{}ที่ฉันชอบคือ{}", "อะไรคือ{}และ{}"),
        "สี ดอกไม้ เมือง หนังสือ เพลง ฤดู สัตว์ อาหาร ภาพยนตร์ กีฬา",
        "ฟ้า กุหลาบ เชียงใหม่ นิยาย ลูกทุ่ง หนาว หมา ผัดไทย ตลก ฟุตบอล",
    ),
}


@pytest.mark.parametrize("language", QUESTIONS)
def test_a_question_finds_what_shares_most_of_it_among_200_others(
    stream: MemoryStream, language: str
) -> None:
    """Though it is the oldest, and all others share some."""
    question, answer, others, subjects, values = QUESTIONS[language]
    said = [
        other.format(subject, value)
        for other in others
        for subject in subjects.split()
        for value in values.split()
    ]
    assert len(set(said)) == 200
    remember(stream, answer, *said)
    ranked = found(stream, question, limit=300)
    assert len(ranked) == 201
    (first, most), (_, second), *_ = ranked
    assert first == answer
    assert most > second
    assert found(stream, question, limit=1) == ranked[:1]


def test_a_sentence_that_holds_the_phrase_comes_before_one_that_holds_a_part(
    stream: MemoryStream,
) -> None:
    remember(stream, "日本語の先生", "日本の先生", "日本と英語", "英語の先生", "日、本、語")
    assert found(stream, "日本語", limit=9) == [
        ("日本語の先生", 10 + 10 + 24 + 14),
        ("日、本、語", 10 + 10 + 14 + 8),
        ("日本と英語", 10 + 8),
        ("日本の先生", 10 + 8),
    ]


def test_two_pieces_are_a_short_word_however_many_characters_they_have(
    stream: MemoryStream,
) -> None:
    remember(stream, "กี่ที่")
    assert found(stream, "กี่ที่") == [("กี่ที่", 10 + 24 + 14)]


def test_the_phrase_is_the_query_as_it_stands(stream: MemoryStream) -> None:
    remember(stream, "東京tower2階です", "2階の東京tower2です")
    (_, most), (_, least) = found(stream, "東京tower2階")
    assert most == 10 + 16 + 10 + 24 + 14
    assert least == 10 + 16 + 10 + 14 + 8


def test_a_question_is_cut_after_32_words(stream: MemoryStream) -> None:
    """Its phrase isn't."""
    long = "".join(map(chr, range(0x4E00, 0x4E00 + 40)))
    remember(stream, f"{long}。", long[:33], long[31:33], long[32:])
    assert found(stream, long, limit=9) == [
        (f"{long}。", 32 * 10 + 24 + 14),
        (long[:33], 32 * 10 + 14 + 8),
        (long[31:33], 10 + 8),
    ]
