"""Memory: what is remembered, found, recalled to a model, and written by it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Answer, RunningGateway, stored_stream, until
from tests.wire.servers import Finish, ModelServer, OpenAIWire, Refuse, Say

TOKEN = "token-of-the-settings"
NOTHING_TO_KEEP = [Say(['{"memories": []}']), Finish()]
HELLO = {"text": "hello"}


class Agent:
    """One agent's session and memory in a gateway that others use as well."""

    def __init__(self, gateway: RunningGateway, name: str) -> None:
        self.gateway = gateway
        self.stream_id = f"memory:agent:{name}"
        self.key = f"agent:{name}:companion:k"

    def prompt(self, text: str) -> Answer:
        return self.gateway.post(f"/sessions/{self.key}/messages", {"text": text})

    def remember(self, content: str, **fields: object) -> dict[str, Any]:
        return remember(self.gateway, content, sessionKey=self.key, **fields)

    def search(self, query: str, **fields: object) -> list[dict[str, Any]]:
        return search(self.gateway, query, sessionKey=self.key, **fields)

    def status(self) -> dict[str, Any]:
        return status(self.gateway, f"?sessionKey={self.key}")


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway() as running:
        yield running


@pytest.fixture(scope="module")
def model_server() -> Iterator[ModelServer]:
    with ModelServer(OpenAIWire()) as running:
        yield running


@pytest.fixture
def server(model_server: ModelServer) -> Iterator[ModelServer]:
    model_server.requests.clear()
    yield model_server
    until(lambda: not model_server.replies, "the model was asked all that the test expects")


@pytest.fixture(scope="module")
def remembering(open_gateway: OpenGateway, model_server: ModelServer) -> Iterator[RunningGateway]:
    variables = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": model_server.url}
    with open_gateway(variables=variables, memory_writer_enabled=True) as running:
        yield running


def remember(gateway: RunningGateway, content: str, **fields: object) -> dict[str, Any]:
    answer = gateway.post("/memory/remember", {"content": content, **fields})
    assert answer.status == 200
    memory: dict[str, Any] = answer.body["memory"]
    return memory


def search(gateway: RunningGateway, query: str, **fields: object) -> list[dict[str, Any]]:
    answer = gateway.post("/memory/search", {"query": query, **fields})
    assert answer.status == 200
    results: list[dict[str, Any]] = answer.body["results"]
    return results


def status(gateway: RunningGateway, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = gateway.get(f"/memory/status{query}").body["memory"]
    return found


def said_to(server: ModelServer, number: int) -> str:
    return json.dumps(server.requests[number].body["messages"], ensure_ascii=False)


def test_memory_works_out_of_the_box(gateway: RunningGateway) -> None:
    assert status(gateway)["identity"] == {"key": "gateway", "scope": "gateway"}
    remember(gateway, "Likes tea", kind="preference", key="favourite drink")
    assert [each["content"] for each in gateway.get("/memory/core").body["memories"]] == [
        "Likes tea"
    ]
    gateway.post("/sessions/k/messages", {"text": "the weather in Oslo"})
    found = search(gateway, "Oslo weather")
    assert {each["sourceType"] for each in found} == {"episode"}
    assert [each["role"] for each in found] == ["assistant", "user"]
    counts = status(gateway)
    assert (counts["coreCount"], counts["episodeCount"]) == (1, 2)


def test_what_is_remembered_is_in_the_log_first_and_survives_a_kill(
    gateway: RunningGateway,
) -> None:
    agent = Agent(gateway, "killed")
    agent.remember("Likes tea", key="drink")
    agent.remember("Likes coffee", key="drink")
    gateway.kill()
    gateway.start()
    (found,) = agent.search("likes")
    assert (found["id"], found["content"]) == (2, "Likes coffee")
    stored = stored_stream(gateway.folder, agent.stream_id)
    assert [each.type for each in stored] == [
        "memory.remembered",
        "memory.superseded",
        "memory.remembered",
    ]
    assert {each.principal for each in stored} == {"anonymous"}


def test_texts_of_different_scripts_stay_apart_and_are_found(gateway: RunningGateway) -> None:
    agent = Agent(gateway, "scripts")
    agent.prompt("hello")
    for text in ("naïve café", "日本語", "مرحبا بالعالم", "здравствуй мир", "नमस्ते दुनिया"):
        agent.remember(text)
    assert agent.status()["archivalCount"] == 5
    for query, text in (
        ("日本語", "日本語"),
        ("NAI\u0308VE CAFÉ", "naïve café"),
        ("بالعالم", "مرحبا بالعالم"),
        ("МИР", "здравствуй мир"),
        ("दुनिया", "नमस्ते दुनिया"),
    ):
        assert [each["content"] for each in agent.search(query)] == [text]
    assert agent.search("caf") == []  # whole words


def test_a_rebuild_gives_the_same_rows(gateway: RunningGateway) -> None:
    agent = Agent(gateway, "rebuilt")
    whose = {"sessionKey": agent.key}
    first = agent.remember("Likes tea", key="drink")
    agent.remember("Likes tea", key="drink")
    agent.remember("Likes coffee", key="drink")
    agent.remember("The door code is 4711", kind="secret")
    gateway.post("/memory/forget", whose | {"id": first["id"]})
    gateway.post("/memory/forget", whose | {"key": "the door code is 4711"})
    agent.prompt("hello")
    before = (agent.status(), agent.search("hello coffee door", limit=10))
    rebuilt = gateway.post("/memory/rebuild", whose).body
    assert rebuilt == {"ok": True, "memoryRows": 3, "episodeRows": 2}
    after = (agent.status(), agent.search("hello coffee door", limit=10))
    for each in (*before[1], *after[1]):
        each["score"] = round(each["score"], 3)
    assert after == before


def test_reading_memory_makes_no_session(gateway: RunningGateway) -> None:
    for path in ("/memory/status", "/memory/core"):
        assert gateway.get(f"{path}?sessionKey=new").status == 404
    assert gateway.get("/sessions/new").status == 404


def test_an_agents_sessions_have_a_memory_of_their_own(gateway: RunningGateway) -> None:
    key = "agent:a7:companion:x"
    gateway.post(f"/sessions/{key}/messages", {"text": "only for the agent"})
    agents = status(gateway, f"?sessionKey={key}")
    assert agents["identity"] == {"key": "agent:a7", "scope": "agent"}
    assert agents["episodeCount"] == 2
    assert search(gateway, "agent") == []
    assert len(search(gateway, "agent", sessionKey=key)) == 2


def test_a_model_is_told_what_fits_and_the_log_says_what_it_was_told(
    remembering: RunningGateway, server: ModelServer
) -> None:
    agent = Agent(remembering, "told")
    tea = agent.remember("Likes tea", kind="preference")
    code = agent.remember("The door code is 4711", kind="secret")
    agent.remember("Green bicycles")
    server.reply([Say(["4711"]), Finish()], NOTHING_TO_KEEP)
    agent.prompt("What is the door code?")
    told = said_to(server, 0)
    assert told.index("What is the door code?") < told.index("Companion Memory")
    assert "- [preference] Likes tea" in told
    assert "- [secret] The door code is 4711" in told
    assert "bicycles" not in told
    history = json.dumps(remembering.get(f"/sessions/{agent.key}/history").body)
    assert "Companion Memory" not in history

    def recalled() -> list[Any]:
        stored = stored_stream(remembering.folder, agent.stream_id)
        return [json.loads(each.payload or b"") for each in stored if "recalled" in each.type]

    (event,) = until(recalled, "it is in the log")
    assert event["memory_ids"] == [tea["id"], code["id"]]
    assert event["session_key"] == agent.key
    (found,) = [each for each in agent.search("door") if each["sourceType"] == "memory"]
    assert found["id"] == code["id"]


def test_the_sessions_model_writes_what_is_worth_remembering_and_the_next_run_knows_it(
    remembering: RunningGateway, server: ModelServer
) -> None:
    entry = {"kind": "profile", "key": "name", "content": "The user is called Ada"}
    server.reply(
        [Say(["Hello Ada."]), Finish()],
        [Say([json.dumps({"memories": [entry]})]), Finish()],
        [Say(["Ada."]), Finish()],
        NOTHING_TO_KEEP,
    )
    agent = Agent(remembering, "written")
    agent.prompt("I am Ada")
    agent.prompt("Who am I?")
    asked = said_to(server, 1)
    assert "I am Ada" in asked
    assert "Hello Ada." in asked
    assert server.requests[1].body["max_tokens"] == 600
    assert "- [profile] The user is called Ada" in said_to(server, 2)
    (record,) = remembering.get(f"/memory/core?sessionKey={agent.key}").body["memories"]
    assert (record["source"], record["key"]) == ("auto", "name")


def test_a_question_about_tokens_is_no_secret(
    remembering: RunningGateway, server: ModelServer
) -> None:
    server.reply([Say(["It limits a rate."]), Finish()], NOTHING_TO_KEEP)
    agent = Agent(remembering, "tokens")
    agent.prompt("What is a token bucket? Remember it.")
    counts = agent.status()
    assert (counts["coreCount"], counts["archivalCount"], counts["episodeCount"]) == (0, 0, 2)


@pytest.mark.parametrize(
    ("name", "replies"),
    [
        ("failing", [Refuse(500, "no")]),
        ("refusing", [Refuse(400, "no")]),
        ("babbling", [[Say(["no JSON"]), Finish()]]),
    ],
)
def test_a_writer_that_fails_changes_nothing(
    remembering: RunningGateway, server: ModelServer, name: str, replies: list[Any]
) -> None:
    agent = Agent(remembering, name)
    server.reply([Say(["Hi."]), Finish()], *replies)
    first = agent.prompt("hello")
    assert (first.status, first.body["response"]) == (200, "Hi.")
    assert agent.status()["archivalCount"] == 0


def test_memory_can_be_switched_off_while_the_gateway_runs(
    remembering: RunningGateway, server: ModelServer
) -> None:
    """The last one of this gateway's tests."""
    agent = Agent(remembering, "off")
    agent.remember("Likes tea", kind="preference")
    change = {"gateway": {"memory": {"enabled": False}}}
    assert remembering.request("PATCH", "/config", json.dumps(change).encode()).status == 200
    server.reply([Say(["Hi."]), Finish()])
    assert agent.prompt("hello").status == 200
    assert "Likes tea" not in said_to(server, 0)
    assert status(remembering)["enabled"] is False
    assert remembering.post("/memory/remember", {"content": "x"}).body == {
        "ok": True,
        "memory": None,
    }
    assert remembering.post("/memory/search", {"query": " a  b "}).body == {
        "query": " a  b ",
        "results": [],
    }
    assert len(server.requests) == 1


@pytest.fixture(scope="module")
def guarded(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=TOKEN) as running:
        yield running


def ask(gateway: RunningGateway, token: str, method: str, path: str, body: object = None) -> Answer:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    return gateway.request(method, path, content, headers=headers)


def issued(gateway: RunningGateway, name: str, *scopes: str, prefix: str = "") -> str:
    body = {"name": name, "scopes": scopes, "keyPrefix": prefix}
    token: str = ask(gateway, TOKEN, "POST", "/tokens", body).body["token"]
    return token


def test_secrets_come_back_masked_without_the_scope_for_them(guarded: RunningGateway) -> None:
    reader = issued(guarded, "reader", "read", "prompt")
    for content, key in (("The pin is 4711", ""), ("hunter2", "wifi password")):
        body = {"content": content, "key": key, "kind": "secret", "bucket": "core"}
        ask(guarded, TOKEN, "POST", "/memory/remember", body)
    masked = ask(guarded, reader, "GET", "/memory/core").body["memories"]
    assert [each["content"] for each in masked] == ["••••••••"] * 2
    assert [each["key"] for each in masked] == ["wifi-password", "••••••••"]
    for query in ("4711", "hunter2", "pin", "wifi"):
        guess = ask(guarded, reader, "POST", "/memory/search", {"query": query})
        assert guess.body["results"] == []
    clear = ask(guarded, TOKEN, "POST", "/memory/search", {"query": "4711"}).body["results"]
    assert [each["content"] for each in clear] == ["The pin is 4711"]
    told = ask(guarded, reader, "POST", "/memory/remember", {"content": "x", "kind": "secret"})
    assert told.body["memory"]["content"] == "••••••••"


def test_a_token_bound_to_a_prefix_reaches_the_memory_of_its_sessions_only(
    guarded: RunningGateway,
) -> None:
    bound = issued(guarded, "bound", "read", "prompt", prefix="agent:a7:")
    key = "agent:a7:companion:x"
    assert ask(guarded, bound, "GET", "/memory/core").status == 404
    assert ask(guarded, bound, "POST", "/memory/search", {"sessionKey": "web:main"}).status == 404
    for content in ("of the agent", ""):
        body = {"content": content, "sessionKey": key}
        answer = ask(guarded, bound, "POST", "/memory/remember", body)
        assert answer.status == (200 if content else 400)
    found = ask(guarded, bound, "POST", "/memory/search", {"query": "agent", "sessionKey": key})
    assert [each["content"] for each in found.body["results"]] == ["of the agent"]


@pytest.mark.parametrize(
    ("path", "body", "status_expected"),
    [
        ("remember", {}, 400),
        ("remember", {"content": " \n"}, 400),
        ("remember", {"content": 7}, 400),
        ("remember", {"content": "a\x00b"}, 422),
        ("remember", {"content": "a", "key": "\x00"}, 422),
        ("remember", {"content": "x" * 10_001}, 422),
        ("forget", {}, 400),
        ("forget", {"id": "1"}, 400),
        ("forget", {"id": True}, 400),
        ("forget", {"key": " "}, 400),
        ("search", {"query": "a", "sessionKey": ".."}, 400),
        ("search", [], 400),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_remembered(
    guarded: RunningGateway, path: str, body: object, status_expected: int
) -> None:
    before = stored_stream(guarded.folder, "memory:gateway")
    answer = ask(guarded, TOKEN, "POST", f"/memory/{path}", body)
    assert answer.status == status_expected
    assert answer.body["error"]
    assert stored_stream(guarded.folder, "memory:gateway") == before


@pytest.mark.parametrize("memory_id", ["0", "-1", "9223372036854775808", "1e300", "-1e300"])
def test_an_id_that_no_memory_can_have_names_none(guarded: RunningGateway, memory_id: str) -> None:
    ask(guarded, TOKEN, "POST", "/memory/remember", {"content": "there is one"})
    body = f'{{"id":{memory_id}}}'.encode()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = guarded.request("POST", "/memory/forget", body, headers=headers)
    assert (answer.status, answer.body) == (200, {"ok": True, "forgotten": False})


HOSTILE = ('"', "'", "* OR 1", "NEAR(a b)", "a AND", "kind:secret", "-a", "^a", "\u202e", "💥" * 40)


@pytest.mark.parametrize("query", [*HOSTILE, "x" * 100_000, "many words " * 5_000])
def test_a_query_is_only_text(guarded: RunningGateway, query: str) -> None:
    answer = ask(guarded, TOKEN, "POST", "/memory/search", {"query": query})
    assert answer.status == 200
