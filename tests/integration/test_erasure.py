"""What is erased is nowhere any more, and the log proves the rest."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
import sqlalchemy as sa

from actors.memory.rules import Remember
from actors.replay import stream_of
from actors.session import commands as c
from actors.session.record_events import StreamErased
from actors.tail import Tail
from actors.timers import now_ms
from persistence import chain
from persistence.schema import inbox
from tests.acceptance.gateway import Background
from tests.unit.actors.world import eventually
from web.app import create_app
from web.bootstrap import Gateway
from web.settings import load_settings


def canary_of(key: str) -> str:
    """Return a word of a session's own, which the search index takes as it is."""
    return f"xylophone{''.join(filter(str.isalnum, key))}7391"


class Client:
    """A gateway in this process, asked as over HTTP."""

    def __init__(self, folder: Path, database_url: str = "", **settings: Any) -> None:
        self.folder = folder
        self.gateway = Gateway(
            load_settings(
                database_url=database_url or f"sqlite:///{folder / 'sessiond.db'}",
                workspaces_dir=str(folder / "workspaces"),
                demo_delay_ms=0,
                tools="write",
                log_texts=True,
                **settings,
            )
        )
        self.gateway.start()
        self._http = falcon.testing.TestClient(create_app(self.gateway))

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = self._http.simulate_request(method, path, json=body, **options)
        assert answer.status_code < 300, answer.text
        return answer.json if "json" in answer.headers.get("content-type", "") else answer.text

    def answer(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = self._http.simulate_request(method, path, json=body)
        return answer.status_code, answer.json

    def status(self, method: str, path: str, body: Any = None) -> int:
        return self.answer(method, path, body)[0]

    def say(self, key: str, text: str, **headers: str) -> str:
        path = f"/sessions/{key}/messages"
        answer = self.ask("POST", path, {"text": text}, headers=headers)
        self.gateway.memory.settle(key)
        response: str = answer["response"]
        return response

    def seqs(self, key: str, *types: str) -> list[int]:
        head = self.gateway.log.head(stream_of(key))
        stored = [] if head is None else self.gateway.log.read(head)
        return [each.seq for each in stored if each.type in types]

    def check_chain(self, stream_id: str) -> None:
        head = self.gateway.log.head(stream_id)
        assert head is not None
        assert chain.verify(stream_id, self.gateway.log.read(head)) == (head.version, head.hash)

    def traces(self, key: str) -> list[str]:
        """Return where the session's word is still found: in answers, and in any file."""
        word = canary_of(key)
        answers = {
            path: self._http.simulate_get(path).text
            for path in (
                "/sessions",
                f"/sessions/{key}",
                f"/sessions/{key}/history",
                f"/sessions/{key}/state",
                f"/sessions/{key}/log",
                f"/sessions/{key}/audit/erasures",
                "/logs",
                "/memory/core",
            )
        }
        answers["search"] = str(self.ask("POST", "/memory/search", {"query": word})["results"])
        found = [path for path, text in answers.items() if word in text]
        return found + [
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and word.encode() in path.read_bytes()
        ]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    made = Client(tmp_path_factory.mktemp("erasure"))
    yield made
    made.gateway.stop(0)


@contextlib.contextmanager
def opened(folder: Path, **settings: Any) -> Iterator[Client]:
    made = Client(folder, **settings)
    try:
        yield made
    finally:
        made.gateway.stop(0)


def fill(client: Client, key: str) -> None:
    """Leave the session's word wherever a session can leave one."""
    word = canary_of(key)
    client.say(key, f"Tell me of {word}", **{"Idempotency-Key": f"{word}-1"})
    client.say(key, f'!write {{"path": "{word}.txt", "content": "all about {word}"}}')
    client.say(key, f"!think hard about {word}")
    client.ask("PATCH", f"/sessions/{key}", {"name": f"On {word}"})
    client.ask("POST", f"/sessions/{key}/compact")
    identity = client.gateway.memory.identity(key)
    learnt = Remember(1, f"likes {word}", kind="preference", key=word, session_key=key)
    client.gateway.memory.remember(identity, learnt)


def test_of_an_erased_session_no_word_is_anywhere_and_its_chain_still_verifies(
    client: Client,
) -> None:
    fill(client, "gone")
    client.say("stays", "something else")
    traces = {"/sessions/gone/history", "/logs", "/memory/core", "search", "sessiond.db-wal"}
    assert traces <= {*client.traces("gone")}
    seqs = client.seqs("gone", "prompt.queued")
    receipt = client.ask("POST", "/sessions/gone/erase", {"reason": "asked to", "all": True})[
        "receipt"
    ]
    assert client.traces("gone") == []
    assert receipt["notYet"] == []
    assert receipt["ranges"] == [[1, receipt["seq"] - 1]]
    assert receipt["memories"] == 1
    assert receipt["episodes"] >= 5
    assert receipt["files"] == 1
    client.check_chain("session:gone")
    client.check_chain("memory:gateway")
    assert client.seqs("gone", "prompt.queued") == seqs
    assert client.status("GET", "/sessions/gone") == 404
    (told,) = client.ask("GET", "/sessions/gone/audit/erasures")["erasures"]
    assert (told["receiptId"], told["reason"]) == (receipt["receiptId"], "asked to")
    assert "something else" in client.say("stays", "something else")


def test_the_key_of_an_erased_session_starts_empty_when_it_is_used_again(client: Client) -> None:
    fill(client, "again")
    client.ask("POST", "/sessions/again/erase", {"reason": "r", "all": True})
    client.say("again", "hello", **{"Idempotency-Key": f"{canary_of('again')}-1"})
    session = client.ask("GET", "/sessions/again")["session"]
    assert session["messageCount"] == 2
    assert "name" not in session
    history = client.ask("GET", "/sessions/again/history")["messages"]
    assert [each["parts"][0]["text"] for each in history] == ["hello", "hello"]


def test_erasing_again_is_harmless(client: Client) -> None:
    client.say("twice", "word")
    first = client.ask("POST", "/sessions/twice/erase", {"reason": "one", "all": True})
    again = client.ask("POST", "/sessions/twice/erase", {"reason": "two", "all": True})
    assert again["receipt"]["receiptId"] == first["receipt"]["receiptId"]
    assert again["receipt"]["payloads"] == 0
    client.say("twice", "word")
    client.ask("POST", "/sessions/twice/erase", {"reason": "three", "all": True})
    told = client.ask("GET", "/sessions/twice/audit/erasures")["erasures"]
    assert [each["reason"] for each in told] == ["one", "three"]


def test_a_session_that_was_deleted_before_is_erased_too(client: Client) -> None:
    fill(client, "deleted")
    client.ask("DELETE", "/sessions/deleted")
    client.ask("POST", "/sessions/deleted/erase", {"reason": "r", "all": True})
    assert client.traces("deleted") == []


def test_the_primary_session_is_empty_and_there_after_it_is_erased(client: Client) -> None:
    key = client.gateway.settings.primary_session
    fill(client, key)
    client.ask("POST", f"/sessions/{key}/erase", {"reason": "r", "all": True})
    assert client.ask("GET", f"/sessions/{key}")["session"]["messageCount"] == 0
    assert client.traces(key) == []


def test_what_runs_ends_when_its_session_is_erased_and_who_waits_is_told(tmp_path: Path) -> None:
    with opened(tmp_path, demo_deltas=100_000) as client:
        body = {"text": canary_of("busy")}
        waiting = Background(lambda: client.answer("POST", "/sessions/busy/messages", body))
        eventually(lambda: bool(client.seqs("busy", "text.delta")))
        client.ask("POST", "/sessions/busy/erase", {"reason": "r", "all": True})
        status, told = waiting.result()
        assert (status, told["error"]) in {(409, "aborted"), (409, "erased")}
        assert client.traces("busy") == []
        assert client.gateway.registry.runs_count == 0


def test_a_part_goes_with_all_that_says_the_same_and_the_rest_stays(client: Client) -> None:
    key = "part"
    client.say(key, "first words")
    word = canary_of(key)
    client.say(key, f"Tell me of {word}", **{"Idempotency-Key": f"{word}-2"})
    asked, answered = client.seqs(key, "message.completed")[2:4]
    client.say(key, "last words")
    client.ask("POST", f"/sessions/{key}/compact")
    body = {"reason": "a name", "range": [asked, asked]}
    client.ask("POST", f"/sessions/{key}/erase", body)
    client.ask(
        "POST", f"/sessions/{key}/erase", {"reason": "it too", "range": [answered, answered]}
    )
    client.ask("PATCH", f"/sessions/{key}", {"name": "what is left"})
    history = client.ask("GET", f"/sessions/{key}/history")["messages"]
    assert [each["parts"][0]["text"] for each in history] == ["first words"] * 2 + [
        "last words"
    ] * 2
    state = client.ask("GET", f"/sessions/{key}")["session"]
    assert (state["messageCount"], state["lastMessagePreview"]) == (4, "last words")
    assert client.traces(key) == []
    told = client.ask("GET", f"/sessions/{key}/audit/erasures")["erasures"]
    assert [each["reason"] for each in told] == ["a name", "it too"]
    client.check_chain(stream_of(key))
    assert client.say(key, "and on") == "and on"


def test_a_range_that_is_none_is_refused(client: Client) -> None:
    client.say("ranges", "word")
    path = "/sessions/ranges/erase"
    for wrong in ({}, {"range": [5, 2]}, {"range": [1, 2], "all": True}, {"range": [9_999, 9_999]}):
        assert client.status("POST", path, {"reason": "r", **wrong}) == 422
    assert client.status("POST", "/sessions/nobody/erase", {"reason": "r", "all": True}) == 404


def test_nothing_is_erased_of_a_session_on_hold_until_it_is_released(client: Client) -> None:
    client.say("held", canary_of("held"))
    client.ask("POST", "/sessions/held/hold", {"reason": "case 12"})
    assert client.ask("GET", "/sessions/held")["session"]["legalHold"] == "case 12"
    for what in ({"all": True}, {"range": [1, 5]}):
        assert client.status("POST", "/sessions/held/erase", {"reason": "r", **what}) == 409
    client.ask("DELETE", "/sessions/held")
    assert client.status("POST", "/sessions/held/erase", {"reason": "r", "all": True}) == 409
    assert client.ask("DELETE", "/sessions/held/hold") == {"ok": True}
    assert client.ask("DELETE", "/sessions/held/hold") == {"ok": False}
    client.ask("POST", "/sessions/held/erase", {"reason": "r", "all": True})
    assert client.traces("held") == []


def test_what_was_erased_stays_so_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as client:
        fill(client, "k")
        client.ask("POST", "/sessions/k/erase", {"reason": "r", "all": True})
    with opened(tmp_path) as client:
        assert client.traces("k") == []
        assert client.say("k", "hello") == "hello"
        client.ask("POST", "/memory/rebuild", {})
        assert client.traces("k") == []
        client.check_chain("session:k")
    with contextlib.closing(sqlite3.connect(tmp_path / "sessiond.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_on_postgresql_no_row_holds_an_erased_word(tmp_path: Path, postgres_url: sa.URL) -> None:
    url = postgres_url.render_as_string(hide_password=False)
    engine = sa.create_engine(postgres_url)
    word = canary_of("k")

    def rows() -> list[str]:
        with engine.connect() as connection:
            return [
                table
                for table in sa.inspect(engine).get_table_names()
                for row in connection.execute(sa.text(f"SELECT {table}::text FROM {table}"))
                if word in str(row) or word.encode().hex() in str(row)
            ]

    with opened(tmp_path, database_url=url) as client:
        fill(client, "k")
        with engine.begin() as connection:
            connection.execute(
                sa.insert(inbox).values(
                    owner="a",
                    asker="b",
                    stream_id="session:k",
                    message=word.encode(),
                    put_at=now_ms() * 1_000,
                    answer=b"{}",
                )
            )
        assert {"events", "inbox", "memories", "memory_index"} <= {*rows()}
        receipt = client.ask("POST", "/sessions/k/erase", {"reason": "r", "all": True})["receipt"]
        assert rows() == []
        assert client.traces("k") == []
        assert "VACUUM" in receipt["notYet"][0]
        client.check_chain("session:k")
    engine.dispose()


def test_a_session_is_erased_that_another_process_owns(
    tmp_path: Path, postgres_url: sa.URL
) -> None:
    url = postgres_url.render_as_string(hide_password=False)
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with (
        opened(folders[0], database_url=url, primary_session="p:1") as owner,
        opened(folders[1], database_url=url, primary_session="p:2") as other,
    ):
        owner.say("k", f"Tell me of {canary_of('k')}")
        _state, reader = other.gateway.registry.reader("k")
        with contextlib.closing(Tail(other.gateway.log, "k", reader)) as tail:
            owner.say("k", f"And again of {canary_of('k')}")
            other.ask("POST", "/sessions/k/erase", {"reason": "r", "all": True})
            seen: list[str] = []
            while StreamErased.wire_name not in seen:
                seen += [each.event.wire_name for each in tail.next(10)]
        for client in (owner, other):
            assert client.traces("k") == []
        assert other.say("k", "hello") == "hello"


def test_an_id_from_elsewhere_leads_to_no_other_folder(tmp_path: Path) -> None:
    with opened(tmp_path) as client:
        for number, session_id in enumerate(("..", ".", "/", f"{tmp_path}", "../workspaces")):
            created = c.CreateSession(now_ms(), session_id)
            client.gateway.registry.ask(f"odd{number}", created)
            client.ask("POST", f"/sessions/odd{number}/erase", {"reason": "r", "all": True})
        assert (tmp_path / "sessiond.db").exists()
        assert client.say("k", "word") == "word"
