import pytest

from actors.memory.events import (
    EpisodeRecorded,
    MemoryForgotten,
    MemoryRecalled,
    MemoryRemembered,
    MemorySuperseded,
)
from actors.memory.identity import Identity, identity_of
from actors.memory.rules import (
    EPISODE_CHARACTERS_MAX,
    KEY_CHARACTERS_MAX,
    Episode,
    Forget,
    Remember,
    episode,
    forget,
    key_of,
    projected,
    remember,
)
from persistence.records import MemoryRow

TEA = MemoryRow(2, "core", "preference", "favourite-drink", "Likes tea", "manual", True, 5, 5)
LIKES_TEA = MemoryRemembered(2, "core", "preference", "favourite-drink", "Likes tea", "manual", 5)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Favourite  Drink", "favourite-drink"),
        ('The wifi is called "Blue House"', "the-wifi-is-called-blue-house"),
        ("naïve café", "naïve-café"),
        ("日本語", "日本語"),
        ("ＡＢＣ", "abc"),
        ("e\u0301tude", "étude"),
    ],
)
def test_a_key_is_a_texts_words_of_any_script(text: str, key: str) -> None:
    assert key_of(text) == key


def test_texts_without_words_and_long_ones_are_told_apart() -> None:
    assert key_of("!!!") != key_of("???")
    long = [key_of("word " * 100 + end) for end in ("one", "two")]
    assert len(set(long)) == 2
    assert all(len(key) == KEY_CHARACTERS_MAX for key in long)


@pytest.mark.parametrize(
    ("kind", "bucket", "expected"),
    [
        ("", "", ("fact", "archival")),
        ("preference", "", ("preference", "core")),
        ("relationship", "", ("relationship", "core")),
        ("secret", "", ("secret", "archival")),
        ("secret", "core", ("secret", "core")),
        ("nonsense", "nonsense", ("fact", "archival")),
    ],
)
def test_a_kind_says_where_it_belongs_unless_the_bucket_does(
    kind: str, bucket: str, expected: tuple[str, str]
) -> None:
    (event,) = remember(Remember(1, "x", bucket, kind), None, 1)
    assert isinstance(event, MemoryRemembered)
    assert (event.kind, event.bucket) == expected


def test_the_same_again_is_the_same_memory_touched() -> None:
    events = remember(Remember(9, "Likes  tea", "", "preference", "Favourite drink"), TEA, 3)
    assert events == (
        MemoryRemembered(2, "core", "preference", "favourite-drink", "Likes tea", "manual", 9),
    )
    (row,) = projected(events, {2: TEA}.get)
    assert (row.id, row.created_at, row.updated_at, row.last_accessed_at) == (2, 5, 9, 9)


def test_something_else_under_the_same_key_supersedes() -> None:
    events = remember(Remember(9, "Likes coffee", "", "preference", "favourite drink"), TEA, 3)
    assert events[0] == MemorySuperseded(2, 3, 9)
    old, new = projected(events, {2: TEA}.get)
    assert (old.active, old.superseded_at, old.superseded_by) == (False, 9, 3)
    assert (new.id, new.active, new.content) == (3, True, "Likes coffee")


def test_what_is_not_there_or_forgotten_is_not_forgotten_again() -> None:
    assert forget(Forget(9, 2), TEA) == (MemoryForgotten(2, 9),)
    (gone,) = projected([MemoryForgotten(2, 9)], {2: TEA}.get)
    assert (gone.active, gone.superseded_at, gone.superseded_by) == (False, 9, None)
    assert forget(Forget(9, 2), gone) == ()
    assert forget(Forget(9, 2), None) == ()


def test_an_episode_is_one_line_of_bounded_length() -> None:
    assert episode(Episode(1, "k", "s", "user", " a\n\tb "), 7).text == "a b"
    cut = episode(Episode(1, "k", "s", "user", "x" * 5_000), 7).text
    assert len(cut) == EPISODE_CHARACTERS_MAX
    assert cut.endswith("x…")


def test_the_rows_follow_from_the_events_alone() -> None:
    events = (
        LIKES_TEA,
        EpisodeRecorded(1, "k", "s", "user", "hello", 6),
        MemoryRecalled((2,), (1,), "k", "p1", 7),
        MemorySuperseded(2, 3, 8),
        MemoryRemembered(3, "core", "preference", "favourite-drink", "Likes coffee", "manual", 8),
        MemoryForgotten(3, 9),
    )
    tea, coffee, hello = projected(events)
    assert (tea.active, tea.last_accessed_at, tea.superseded_by) == (False, 7, 3)
    assert (coffee.active, coffee.superseded_at) == (False, 9)
    assert hello.text == "hello"


@pytest.mark.parametrize(
    ("session", "key", "scope"),
    [
        ("web:main", "companion:c1", "companion"),
        ("agent:a7:companion:x", "agent:a7", "agent"),
        ("agent:a:companion:b:companion:c", "agent:a:companion:b", "agent"),
        ("agent:a7", "companion:c1", "companion"),
        ("agent::companion:x", "companion:c1", "companion"),
    ],
)
def test_an_agents_sessions_have_its_memory_all_others_the_configured_one(
    session: str, key: str, scope: str
) -> None:
    assert identity_of(session, "companion:c1") == Identity(key, scope)
    assert identity_of(session, "companion:c1").stream_id == f"memory:{key}"
