"""Single requests: the reference's recorded answers, and ours."""

import json
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import RunningGateway
from tests.acceptance.reference import (
    JSON,
    TOOL_ERROR,
    VARY,
    Call,
    Elsewhere,
    Instead,
    Same,
    StubModel,
    Table,
    check_accounted,
    check_answer,
    check_replay,
    differences,
    leveled,
    recording,
    replays,
)

TALK = Call("POST", "/sessions/k2/messages", {"text": "#think #tool"})
BEGIN = Call("POST", "/sessions/k/messages", {"text": "hi"})
FAIL = Call("POST", "/sessions/k/messages", {"text": "#error"})
DELETE = Call("DELETE", "/sessions/k")
RENAME = Call("PATCH", "/sessions/k", {"name": "My day"})
SELECT = Call("POST", "/sessions/k/model", {"provider": "anthropic", "modelId": "stub-2"})
MODELS = [
    {
        "provider": "anthropic",
        "id": "stub-1",
        "name": "Stub One",
        "reasoning": True,
        "vision": True,
    },
    {"provider": "anthropic", "id": "stub-2", "name": "Stub Two"},
]
CONFIGURATION = {"gateway": {"session": {"idleMinutes": 7}}}
CONFIGURE = Call("PATCH", "/config", CONFIGURATION)
FAILED = {
    "ok": False,
    "response": "",
    "error": "anthropic answered 400: It was told to fail.",
    "sessionKey": "k",
}
NOT_AN_OBJECT = {"error": "The JSON body must be an object."}
NOT_A_NAME = {"error": "A session's name is text of 1 to 200 characters."}
PREVIEW = ("lastMessagePreview",)
LIMITS = {"2": 200, "0": 400, "-1": 400, "abc": 400, "": 200, "999": 200}
LENIENT_LIMITS = ("2.9", "5abc", "1e3")
"""The reference reads the digits at their beginning; what is malformed is 400 here (W20)."""


def get(path: str) -> Same:
    return Same(Call("GET", path))


def post(path: str, body: object = None) -> Same:
    return Same(Call("POST", path, body))


def patched(body: object) -> Call:
    return Call("PATCH", "/sessions/k", body)


TABLE: Table = {
    "GET /health": get("/health"),
    "POST /health": post("/health"),
    "GET /ready": Same(Call("GET", "/ready"), vary=("sessions",)),
    "GET /sessions": Same(Call("GET", "/sessions"), vary=("sessions",)),
    "GET /sessions/web:main": Same(Call("GET", "/sessions/web:main"), vary=PREVIEW),
    "GET /sessions/web%3Amain": Same(Call("GET", "/sessions/web%3Amain"), vary=PREVIEW),
    "GET /sessions/nope": get("/sessions/nope"),
    "GET /sessions/nope/history": get("/sessions/nope/history"),
    "GET /sessions/nope/state": get("/sessions/nope/state"),
    "POST /sessions/nope/abort": post("/sessions/nope/abort"),
    "POST /sessions/nope/reset": post("/sessions/nope/reset"),
    "POST /sessions/nope/reload": post("/sessions/nope/reload"),
    "POST /sessions/nope/steer": post("/sessions/nope/steer", {"text": "hi"}),
    "POST /sessions/nope/model": post("/sessions/nope/model", {}),
    "PATCH /sessions/nope": Same(Call("PATCH", "/sessions/nope", {"name": "x"})),
    "DELETE /sessions/nope": Same(Call("DELETE", "/sessions/nope")),
    "DELETE primary": Same(Call("DELETE", "/sessions/web:main")),
    "GET /nope": get("/nope"),
    "GET /sessions/": Instead("a key has 1 to 200 characters", Call("GET", "/sessions/"), 400),
    "GET /sessions/a/b": get("/sessions/a/b"),
    "PUT /sessions/web:main": Same(Call("PUT", "/sessions/web:main")),
    "GET /sessions/web:main/messages": get("/sessions/web:main/messages"),
    "POST /sessions/web:main/events": post("/sessions/web:main/events"),
    "POST /sessions": post("/sessions"),
    "OPTIONS /sessions": Same(Call("OPTIONS", "/sessions")),
    "HEAD /health": Same(Call("HEAD", "/health")),
    "GET /sessions/%zz": Instead("W20", Call("GET", "/sessions/%zz"), 400),
    "messages ok (creates session)": Same(BEGIN, before=(DELETE,)),
    "messages missing text": post("/sessions/k/messages", {}),
    "messages blank": post("/sessions/k/messages", {"text": " \n"}),
    "messages no body": post("/sessions/k/messages"),
    "messages bad json": post("/sessions/k/messages", b"{"),
    "messages json null": Instead(
        "W20", Call("POST", "/sessions/k/messages", b"null"), 400, NOT_AN_OBJECT
    ),
    "messages json array": Instead(
        "W20: it names what is wrong", Call("POST", BEGIN.path, []), 400, NOT_AN_OBJECT
    ),
    "messages text number": post("/sessions/k/messages", {"text": 7}),
    "messages prompt field": post("/sessions/k/messages", {"prompt": "hi"}),
    "messages prompt() throws": Instead("W3", FAIL, 502, FAILED),
    "messages model error": Instead("W3", FAIL, 502, FAILED),
    "messages tool+think": Same(TALK, before=(Call("DELETE", "/sessions/k2"),)),
    "history all": Elsewhere("test_history_and_state_show_the_recorded_messages"),
    **{
        f"history limit={limit!r}": Elsewhere("test_history_gives_the_recorded_newest_messages")
        for limit in LIMITS
    },
    **{
        f"history limit={limit!r}": Instead(
            "W20",
            Call("GET", f"/sessions/k2/history?limit={limit}"),
            400,
            {"error": "History limit must be a positive integer"},
        )
        for limit in LENIENT_LIMITS
    },
    "state idle": Elsewhere("test_history_and_state_show_the_recorded_messages"),
    "snapshot k2": get("/sessions/k2"),
    "PATCH name": Same(RENAME),
    "PATCH name empty": Instead("W17", patched({"name": ""}), 422, NOT_A_NAME),
    "PATCH no name": Same(patched({})),
    "PATCH name null": Instead("W17", patched({"name": None}), 422, NOT_A_NAME),
    "PATCH name number": Instead("W17", patched({"name": 7}), 422, NOT_A_NAME),
    "snapshot after rename": Same(
        Call("GET", "/sessions/k"), vary=("messageCount",), before=(FAIL, RENAME)
    ),
    "messages count after rename": Same(
        Call("GET", "/sessions/k/history?limit=1"), before=(BEGIN, RENAME)
    ),
    "GET /models": Elsewhere("test_models_are_listed_as_recorded"),
    "POST model ok": Same(SELECT, vary=("provider",)),
    "POST model unknown": post("/sessions/k/model", {"provider": "x", "modelId": "y"}),
    "POST model empty": post("/sessions/k/model", {}),
    "GET /models after set on k": Elsewhere("test_models_are_listed_as_recorded"),
    "reload": post("/sessions/k/reload"),
    "abort idle": post("/sessions/k/abort"),
    "GET /channels/status": get("/channels/status"),
    "GET /config": get("/config"),
    "PATCH /config": Same(CONFIGURE),
    "GET /config after patch": Instead(
        "W17", Call("GET", "/config"), 200, CONFIGURATION, before=(CONFIGURE,)
    ),
    "PATCH /config null": Instead("W20", Call("PATCH", "/config", b"null"), 400, NOT_AN_OBJECT),
    "GET /logs": Elsewhere("test_logs_are_at_most_200_lines"),
    "GET /logs after 60 prompts": Elsewhere("test_logs_are_at_most_200_lines"),
    "DELETE k": Same(DELETE, before=(BEGIN,)),
    "GET k after delete": Same(Call("GET", "/sessions/k"), before=(BEGIN, DELETE)),
    "memory status without identity": Same(Call("GET", "/memory/status"), vary=("memory",)),
    "memory remember without identity": post("/memory/remember", {"content": "It rains."}),
}


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    """A gateway with the recording's sessions."""
    recording("basic")
    with (
        StubModel() as stub,
        open_gateway(variables=stub.variables, models=json.dumps(MODELS)) as running,
    ):
        for key, text in [("web:main", "hi"), ("web:main", "hi"), ("k", "hi")]:
            assert running.post(f"/sessions/{key}/messages", {"text": text}).status == 200
        assert running.post(TALK.path, TALK.body).status == 200
        yield running


def test_every_recorded_name_is_accounted_for() -> None:
    check_accounted("basic", TABLE, __file__)


@pytest.mark.parametrize("name", replays(TABLE))
def test_a_recorded_request_is_answered_as_recorded_or_better(
    gateway: RunningGateway, name: str
) -> None:
    check_replay(gateway, recording("basic")[name], replays(TABLE)[name])


@pytest.mark.parametrize(
    ("expected", "ours", "found"),
    [
        ({"a": 1}, {"b": 2, "a": 1}, []),
        ({"a": None}, {"a": "x"}, []),
        ({"a": []}, {"a": ["x"]}, []),
        ({"id": "a"}, {"id": "b"}, []),
        ({"a": [{"id": "x"}]}, {"a": [{"id": "y"}, {"id": "z"}]}, []),
        ({"a": 1}, {"b": 2}, ["$: fields ['a'], not ['b']"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ["$: fields ['a', 'b'], not ['b', 'a']"]),
        ({"a": {"b": 1}}, {"a": {"b": True}}, ["$.a.b: 1, not True"]),
        ({"id": "a"}, {"id": 1}, ["$.id: '<string>', not '<integer>'"]),
        ({"id": "a"}, {"id": None}, ["$.id: '<string>', not None"]),
        ({"a": [{"b": 1}]}, {"a": []}, ["$.a: it is empty"]),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, ["$.a[2]: 1, not 3"]),
    ],
)
def test_what_a_client_would_miss_is_named(
    expected: object, ours: object, found: list[str]
) -> None:
    assert differences(expected, ours, VARY) == found


def test_history_and_state_show_the_recorded_messages(gateway: RunningGateway) -> None:
    for name, path in [("history all", "history"), ("state idle", "state")]:
        recorded = recording("basic")[name]
        tool = recorded["body"]["messages"][2]["parts"][0]
        assert tool["state"] == "result"
        expected = leveled(recorded["body"], VARY)
        expected["messages"][2]["parts"][0] = {**tool, "state": "error", "result": TOOL_ERROR}
        answer = gateway.get(f"/sessions/k2/{path}")
        check_answer(answer, recorded["status"], recorded["body"], ("state", "result"))
        assert differences(expected, leveled(answer.body, VARY)) == []


@pytest.mark.parametrize("limit", LIMITS)
def test_history_gives_the_recorded_newest_messages(gateway: RunningGateway, limit: str) -> None:
    recorded = recording("basic")[f"history limit={limit!r}"]
    answer = gateway.get(f"/sessions/k2/history?limit={limit}")
    assert answer.status == recorded["status"] == LIMITS[limit]
    if answer.status != 200:
        check_answer(answer, recorded["status"], recorded["body"])
        return
    _, role, place = recorded["body"]["first"].split("-")
    everything = gateway.get("/sessions/k2/history").body["messages"]
    assert answer.body["messages"] == everything[int(place) :]
    assert answer.body["messages"][0]["role"] == role
    assert len(answer.body["messages"]) == recorded["body"]["count"]


def test_models_are_listed_as_recorded(gateway: RunningGateway) -> None:
    for name in ("GET /models", "GET /models after set on k"):
        recorded = recording("basic")[name]["body"]
        answer = gateway.get("/models")
        stubs = [each for each in answer.body["models"] if each["modelId"].startswith("stub-")]
        assert differences(recorded["models"], stubs, ("provider",)) == []
        assert list(answer.body) == list(recorded)
        assert differences(recorded["current"], answer.body["current"], recorded["current"]) == []
        before = answer.body["current"]
        gateway.post(BEGIN.path, BEGIN.body)
        assert gateway.post(SELECT.path, SELECT.body).status == 200
        assert gateway.get("/models").body["current"] == before  # the primary session's


def test_logs_are_at_most_200_lines(gateway: RunningGateway) -> None:
    first = gateway.get("/logs")
    recorded = recording("basic")
    lines_max = recorded["GET /logs after 60 prompts"]["body"]["n"]
    for _ in range(lines_max + 1):
        gateway.get("/sessions/nope")
    lines = gateway.get("/logs").body["logs"]
    assert 0 < len(lines) <= lines_max
    assert all(isinstance(line, str) for line in lines)
    assert first.headers["Content-Type"] == JSON
    assert list(recorded["GET /logs"]["body"])[1:] == ["logs"] == list(first.body)[:1]
