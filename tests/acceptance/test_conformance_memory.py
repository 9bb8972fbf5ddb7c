"""Memory: the reference's recorded requests, made again in the recorded order, and ours."""

from collections.abc import Iterator
from typing import Any

import pytest

from persistence.engine import parse_url, read_engine
from persistence.memories import SqlMemories
from persistence.records import EpisodeRow, MemoryRow, Row
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Answer, RunningGateway, database_url, opened_log
from tests.acceptance.reference import (
    Call,
    Elsewhere,
    Instead,
    Same,
    StubModel,
    Table,
    check_accounted,
    check_entry,
    differences,
    leveled,
    recording,
    replays,
    send,
)

IDENTITY = "companion:c1"
AGENTS = "agent:a7:companion:x"
PRIMARY = "web:main"
TEXT = "Please remember that my door code is 4711"
SCORE_OFF_MAX = 0.001
"""A row loses a point in 14 days: what is found here is younger than a minute."""

TIMES = ("createdAt", "updatedAt", "timestamp", "lastMemoryWriteAt", "lastEpisodeAt")
VARYING = ("lastAccessedAt", "score", "storagePath", *TIMES)
"""What the frame compares by its type only; see ``exact`` for the rest."""

NO_IDENTITY = "no identity: "


def get(path: str) -> Same:
    return Same(Call("GET", path), VARYING)


def post(path: str, body: object = None) -> Same:
    return Same(Call("POST", f"/memory/{path}", body), VARYING)


def instead(why: str, path: str, body: object, shows: dict[str, object]) -> Instead:
    return Instead(why, Call("POST", f"/memory/{path}", body), 200, shows)


def kept(memory_id: int, key: str, content: str) -> dict[str, object]:
    memory = {"id": memory_id, "bucket": "archival", "kind": "fact", "key": key}
    return {"ok": True, "memory": {**memory, "content": content, "source": "manual"}}


def found(query: str, *keys: str) -> dict[str, object]:
    return {"query": query, "results": [{"score": 1, "key": key} for key in keys]}


def remembered(content: str, **fields: object) -> Same:
    return post("remember", {"content": content, **fields})


def counted(archival: int, episodes: int) -> dict[str, object]:
    counts = {"coreCount": 2, "archivalCount": archival, "episodeCount": episodes}
    return {"memory": {"identity": {"key": IDENTITY, "scope": "companion"}, **counts}}


def status(why: str, query: str, archival: int, episodes: int) -> Instead:
    call = Call("GET", f"/memory/status{query}")
    return Instead(why, call, 200, counted(archival, episodes))


APART = "W23: three memories with words of their own have keys of their own"
NOTHING_GUESSED = "W25: no model said that it is a secret"
EPISODE = {
    "id": 1,
    "sourceType": "episode",
    "score": pytest.approx(66, abs=SCORE_OFF_MAX),
    "role": "user",
    "content": TEXT,
}
STORED = Elsewhere("test_the_rows_are_the_recorded_ones_but_for_what_ours_keeps_apart", "W23, W25")
NEWEST = ("zz", "日本語", "ключ", "z2")
DRINK = {"kind": "preference", "key": "favourite drink"}

TABLE: Table = {
    "status empty": get("/memory/status"),
    "core empty": get("/memory/core"),
    "search empty query": post("search", {"query": ""}),
    "search no body": post("search"),
    "remember default": remembered("The wifi is called Blue House"),
    "remember kind preference": remembered("Likes tea", **DRINK),
    "remember same again (touch)": remembered("Likes  tea ", **DRINK),
    "remember supersede": remembered("Likes coffee", **DRINK),
    "remember key variants": remembered("k", key='  Foo ("Bar")! '),
    "remember bad kind ignored": remembered("z1", kind="nope"),
    "remember bucket override": remembered(
        "secret in core", kind="secret", bucket="core", key="PIN"
    ),
    "remember bad bucket ignored": remembered("z2", kind="profile", bucket="nope"),
    "remember unicode key": instead(
        APART,
        "remember",
        {"content": "naïve café", "key": "ключ"},
        kept(8, "ключ", "naïve café"),
    ),
    "remember unicode only content": instead(
        APART, "remember", {"content": "日本語"}, kept(9, "日本語", "日本語")
    ),
    "remember blank content": post("remember", {"content": " \n"}),
    "remember key blank": instead(
        "W23: a key without a word is as good as none",
        "remember",
        {"content": "zz", "key": "  "},
        kept(10, "zz", "zz"),
    ),
    "core": get("/memory/core"),
    "search 'coffee'": post("search", {"query": "coffee"}),
    "search 'favourite drink'": post("search", {"query": "favourite drink"}),
    "search 'blue house wifi'": post("search", {"query": "blue house wifi"}),
    "search 'a'": instead(APART, "search", {"query": "a"}, found("a", *NEWEST)),
    "search 'nothing-matches-this'": post("search", {"query": "nothing-matches-this"}),
    "search ''": instead(APART, "search", {"query": ""}, found("", *NEWEST)),
    "search '  Likes   COFFEE  '": post("search", {"query": "  Likes   COFFEE  "}),
    "search limit 1": post("search", {"query": "likes", "limit": 1}),
    "search limit 0 -> 1": instead(
        APART, "search", {"query": "", "limit": 0}, found("", *NEWEST[:1])
    ),
    "search limit 2.7": instead(
        APART, "search", {"query": "", "limit": 2.7}, found("", *NEWEST[:2])
    ),
    "search limit string": instead(
        APART, "search", {"query": "", "limit": "2"}, found("", *NEWEST)
    ),
    "forget none": post("forget", {}),
    "forget unknown id": post("forget", {"id": 999}),
    "forget key": post("forget", {"key": "Favourite DRINK"}),
    "forget id float": post("forget", {"id": 1.9}),
    "forget id wins over key": post("forget", {"id": 999, "key": "pin"}),
    "forget id string": post("forget", {"id": "5"}),
    "rebuild": post("rebuild"),
    "status": status(APART, "", 5, 0),
    "prompt": Same(Call("POST", f"/sessions/{PRIMARY}/messages", {"text": TEXT})),
    "status after prompt": status(f"{APART}; {NOTHING_GUESSED}", "", 5, 2),
    "search after prompt": instead(
        NOTHING_GUESSED,
        "search",
        {"query": "door code"},
        {"query": "door code", "results": [EPISODE]},
    ),
    "other session shares companion identity": status(
        f"{APART}; {NOTHING_GUESSED}", "?sessionKey=other", 5, 2
    ),
    "agent key session has its own identity": get(f"/memory/status?sessionKey={AGENTS}"),
    "agent key missing companion part": status(
        f"{APART}; {NOTHING_GUESSED}", "?sessionKey=agent:a7", 5, 2
    ),
    "restart episodes": post("rebuild", {"sessionKey": AGENTS}),
    "GET /memory/search": get("/memory/search"),
    "POST /memory/status": post("status"),
    "GET /memory/remember": get("/memory/remember"),
    "POST /memory/core": post("core"),
    "db files": Elsewhere("test_every_memory_is_in_the_one_database"),
    "rows": STORED,
    "episodes": Elsewhere("test_the_episodes_are_the_recorded_ones"),
    "no identity: status": Instead(
        "a memory is always somebody's: without a setting the gateway's; it can be switched off",
        Call("GET", "/memory/status"),
        200,
        {"memory": {"enabled": False, "ready": False, "identity": {"key": "gateway"}}},
    ),
    "no identity: search": post("search", {"query": " a  b "}),
    "no identity: forget": post("forget", {"id": 1}),
    "no identity: rebuild": post("rebuild"),
    "no identity: core": get("/memory/core"),
}
SESSIONS = ("other", "agent:a7", AGENTS)
"""What has sessions beside the primary one, which looking for its memory does not make (W22)."""

KEYS = {8: "ключ", 9: "日本語", 10: "zz"}
"""Of the memories that all had the key ``memory`` and superseded one another (W23)."""


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    """A gateway with the recording's sessions, made while memory was off."""
    recording("memory")
    with StubModel() as stub:
        variables = {**stub.variables, "SESSIOND_MEMORY_ENABLED": "true"}
        with open_gateway(
            variables=variables, memory_identity=IDENTITY, memory_writer_enabled=True
        ) as running:
            switch_memory(running, on=False)
            for key in SESSIONS:
                assert running.post(f"/sessions/{key}/messages", {"text": "hi"}).status == 200
            switch_memory(running, on=True)
            yield running


@pytest.fixture(scope="module")
def without_memory(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    recording("memory")
    with open_gateway(memory_enabled=False) as running:
        yield running


@pytest.fixture(scope="module")
def answers(gateway: RunningGateway, without_memory: RunningGateway) -> dict[str, Answer]:
    """What ours says to each request, made in the recorded order."""
    return {
        name: send(without_memory if name.startswith(NO_IDENTITY) else gateway, entry.call)
        for name, entry in replays(TABLE).items()
    }


def switch_memory(gateway: RunningGateway, *, on: bool) -> None:
    patch = Call("PATCH", "/config", {"gateway": {"memory": {"enabled": on}}})
    assert send(gateway, patch).status == 200


def exact(body: Any) -> Any:
    """Return a body without what is each answer's own; ids stay, and what is null."""
    return _told(leveled(body, (*TIMES, "storagePath")))


def _told(value: Any) -> Any:
    match value:
        case None:
            return "null"
        case list():
            return [_told(each) for each in value]
        case {"lastAccessedAt": int()}:
            return _told({**value, "lastAccessedAt": "<integer>"})
        case {"score": int() | float() as score}:
            return _told({**value, "score": pytest.approx(score, abs=SCORE_OFF_MAX)})
        case dict():
            return {name: _told(each) for name, each in value.items()}
    return value


def rows_of(gateway: RunningGateway) -> list[Row]:
    with opened_log(gateway.folder) as log:
        head = log.head(f"memory:{IDENTITY}")
    assert head is not None
    engine = read_engine(parse_url(database_url(gateway.folder)))
    try:
        return SqlMemories(engine).rows(head.row)
    finally:
        engine.dispose()


def test_every_recorded_name_is_accounted_for_in_its_order() -> None:
    check_accounted("memory", TABLE, __file__)
    assert list(TABLE) == list(recording("memory"))


@pytest.mark.parametrize("name", replays(TABLE))
def test_a_recorded_request_is_answered_as_recorded_or_better(
    answers: dict[str, Answer], name: str
) -> None:
    entry, recorded = replays(TABLE)[name], recording("memory")[name]
    check_entry(answers[name], recorded, entry)
    if isinstance(entry, Same) and answers[name].status == 200:
        assert differences(exact(recorded["body"]), exact(answers[name].body)) == []


def test_what_is_remembered_once_more_keeps_its_id_and_its_first_time(
    answers: dict[str, Answer],
) -> None:
    first = answers["remember kind preference"].body["memory"]
    again = answers["remember same again (touch)"].body["memory"]
    assert (again["id"], again["createdAt"]) == (first["id"], first["createdAt"])
    assert again["updatedAt"] == again["lastAccessedAt"] >= first["updatedAt"]


def test_the_rows_are_the_recorded_ones_but_for_what_ours_keeps_apart(
    gateway: RunningGateway, answers: dict[str, Answer]
) -> None:
    expected = [
        [
            row_id,
            bucket,
            kind,
            KEYS.get(row_id, key),
            content,
            source,
            bool(active) or row_id in KEYS,
        ]
        for row_id, bucket, kind, key, content, _words, source, active, _by in recorded_rows("rows")
        if source != "auto"
    ]
    ours = [row for row in rows_of(gateway) if isinstance(row, MemoryRow)]
    assert expected == [
        [row.id, row.bucket, row.kind, row.key, row.content, row.source, row.active] for row in ours
    ]
    assert {row.id: row.superseded_by for row in ours if row.superseded_by} == {2: 3}


def test_the_episodes_are_the_recorded_ones(
    gateway: RunningGateway, answers: dict[str, Answer]
) -> None:
    ours = [row for row in rows_of(gateway) if isinstance(row, EpisodeRow)]
    expected = [[row_id, role, text] for row_id, _, role, text, _ in recorded_rows("episodes")]
    assert expected == [[row.id, row.role, row.text] for row in ours]
    assert {row.session_key for row in ours} == {PRIMARY}


def recorded_rows(name: str) -> list[list[Any]]:
    found: list[list[Any]] = recording("memory")[name]
    return found


def test_every_memory_is_in_the_one_database(
    gateway: RunningGateway, answers: dict[str, Answer]
) -> None:
    own, agents = "status", "agent key session has its own identity"
    paths = {answers[name].body["memory"]["storagePath"] for name in (own, agents)}
    assert paths == {str(gateway.folder / "sessiond.db")}
    assert {path.name.partition(".db")[0] for path in gateway.folder.glob("*.db*")} == {"sessiond"}
