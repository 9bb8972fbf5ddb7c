"""What was tried out on the reference, and again with its real agent's sessions; and ours."""

from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    RunningGateway,
)
from tests.acceptance.reference import (
    Call,
    Elsewhere,
    Entry,
    Instead,
    Same,
    StubModel,
    Table,
    Unseen,
    check_accounted,
    check_answer,
    check_replay,
    recording,
    replays,
)

SECRET = "hook-secret"
TOKEN = "the-token"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
PROVEN = {"Authorization": "", "x-pi-webhook-secret": SECRET}
TEXT = {"text": "#deltas=2"}
SESSIONS = "acceptance/test_conformance_sessions.py::"
ENDINGS = ("reset other in flight", "reset primary in flight", "delete in flight")
ONE_AT_A_TIME = Elsewhere(SESSIONS + "test_first_requests_at_once_share_one_session", "W8")
KEPT = Elsewhere(
    "acceptance/test_durability.py::"
    "test_sessions_are_there_after_a_kill_without_any_request_for_them",
    "W5, W7, W21",
)
INTERRUPTED = Elsewhere(
    "acceptance/test_durability.py::test_a_kill_in_mid_answer_loses_nothing_that_was_acknowledged",
    "W5",
)
LEFT = Elsewhere(
    "acceptance/test_conversation.py::test_a_client_that_leaves_does_not_take_its_prompt_along",
    "W9",
)
SLOW_READER = Elsewhere(
    "acceptance/test_event_stream.py::"
    "test_a_reader_that_never_reads_is_dropped_and_nobody_waits_for_it",
    "W11",
)
UNKNOWN = Elsewhere(
    "acceptance/test_event_stream.py::test_an_unknown_session_is_404_before_any_stream_begins",
    "W1",
)
SIGTERM = Elsewhere(
    "acceptance/test_durability.py::"
    "test_sigterm_interrupts_what_outlasts_the_grace_period_and_ends_every_stream",
    "W19",
)
EVICTED = Elsewhere(
    "unit/actors/test_sessions.py::test_an_idle_session_leaves_memory_and_comes_back_as_it_was",
    "W21: the list has the sessions that are not loaded too",
)
ALIKE = Elsewhere(SESSIONS + "test_keys_that_look_alike_share_nothing", "W6")
NO_FILES = Unseen("W6, W7: no file or directory is made for a session")


def hook(path: str, **fields: object) -> Call:
    return Call("POST", f"/webhooks{path}", {**TEXT, **fields}, PROVEN)


def refused_key(key: str, why: str) -> Entry:
    error = {"error": f"A webhook reaches webhook:… sessions, not {key!r}."}
    return Instead(why, hook("/x", sessionKey=key), 403, error)


PROBES: Table = {
    **{
        f"auth {name}": Elsewhere("test_the_token_opens_everything_and_health_is_open")
        for name in ("none", "bad")
    },
    "auth lowercase scheme": Elsewhere(
        "acceptance/test_bad_input.py::test_the_schemes_name_is_case_insensitive",
        "HTTP compares the schemes' names so (RFC 9110)",
    ),
    "auth ok": Elsewhere("test_the_token_opens_everything_and_health_is_open"),
    "auth health": Elsewhere("test_the_token_opens_everything_and_health_is_open"),
    "webhook without secret bypasses bearer": Elsewhere(
        "acceptance/test_webhooks.py::test_there_are_no_webhooks_without_a_secret", "W4"
    ),
    "webhook can target primary without bearer": refused_key("web:main", "W4"),
    "GET webhook": Same(Call("GET", "/webhooks/slack", headers={"Authorization": ""})),
    "webhook no secret header": Same(Call("POST", "/webhooks/slack", TEXT, {"Authorization": ""})),
    "webhook route+default sender": Same(hook("/slack")),
    "webhook sender": Same(hook("/slack", sender="bob")),
    "webhook no route": Same(hook("")),
    "webhook trailing slash": Same(hook("/")),
    "webhook nested route": Instead("a key has no slash", hook("/a/b"), 400),
    "webhook double slash": Same(hook("//x")),
    "webhook prefix only": Instead("only what is below the path is a webhook", hook("foo"), 401),
    "webhook explicit key": refused_key("abc", "W4"),
    "webhook empty key": refused_key("", "W4, W6"),
    "webhook dotdot key": refused_key("..", "W4, W6"),
    "webhook empty sender": Instead(
        "what is empty is missing",
        hook("/slack", sender=""),
        200,
        {"ok": True, "response": "tok0 tok1 ", "sessionKey": "webhook:slack:default"},
    ),
    "webhook missing text": Same(hook("/slack", text="")),
    "webhook encoded route": Instead("a key has no space", hook("/a%20b"), 400),
    "webhook query": Same(hook("/slack?x=1")),
    "session dirs after webhooks": NO_FILES,
    "long key": Instead("W20", Call("POST", f"/sessions/{'k' * 300}/messages", TEXT), 400),
    "slash key": Instead("a key has no slash", Call("POST", "/sessions/a%2Fb/messages", TEXT), 404),
    "unicode key": Same(Call("POST", "/sessions/%C3%A9/messages", TEXT)),
    "collision: a_b sees a:b's history": ALIKE,
    "collision: files of a:b after DELETE a_b": ALIKE,
    "GET /memory/status?sessionKey=new creates a session": Elsewhere(
        "test_asking_for_the_memory_of_a_new_session_makes_none", "W22"
    ),
    "reset other: history after": Elsewhere(
        SESSIONS + "test_a_reset_leaves_an_empty_history", "W2"
    ),
    "reset primary: after": Elsewhere(SESSIONS + "test_a_reset_leaves_an_empty_history"),
    **{
        name: Elsewhere(SESSIONS + "test_whoever_waits_is_told_of_a_reset_or_deletion")
        for name in ENDINGS
    },
    "events on unknown session": UNKNOWN,
    "150 MiB body": Elsewhere(
        "acceptance/test_bad_input.py::test_a_body_of_100_mb_is_413_before_it_is_sent", "W12"
    ),
    "events on unknown session without an unhandledRejection handler: exit code": UNKNOWN,
    "chat client disconnect: log": LEFT,
    "prompt kept running": LEFT,
    "queued prompt of a gone client still runs": LEFT,
    "5 concurrent first requests: history of the surviving session": ONE_AT_A_TIME,
    "... answers": ONE_AT_A_TIME,
    "... files": NO_FILES,
    "after kill -9: cr history": INTERRUPTED,
    "after kill -9: session in its first turn": KEPT,
    "after restart: GET /sessions lists": KEPT,
    "default layout after restart: GET": KEPT,
    "default layout: POST continues the old file": NO_FILES,
    "default layout: history": KEPT,
    "default layout: file still on disk after DELETE": NO_FILES,
    "one subscriber that never reads, 300 000 events: RSS MiB": SLOW_READER,
    "control, no subscriber: RSS MiB": SLOW_READER,
    "SIGTERM with one SSE client: exited after 5 s": SIGTERM,
    "... after the client left": SIGTERM,
    "config redaction": Elsewhere(
        "acceptance/test_config.py::test_no_secret_is_shown_anywhere", "W18"
    ),
    "config after PATCH theme=light": Elsewhere(
        "acceptance/test_config.py::test_what_cannot_be_changed_is_refused_by_name", "W17"
    ),
    "idle eviction (idle=0) after 63 s: sessions": EVICTED,
    "evict log": EVICTED,
    "evicted session reloads from disk": EVICTED,
}
REAL: Table = {
    **{
        name: Elsewhere(SESSIONS + "test_whoever_waits_is_told_of_a_reset_or_deletion")
        for name in ENDINGS
    },
    "chat streams that lost chunks (100 runs)": Elsewhere(SESSIONS + "test_no_chat_loses_a_chunk"),
    "history role order": Elsewhere(SESSIONS + "test_no_chat_loses_a_chunk"),
    "5 concurrent first requests: surviving history": ONE_AT_A_TIME,
    "answers": ONE_AT_A_TIME,
    "files": NO_FILES,
    "patch": Same(Call("PATCH", "/sessions/web:main", {"name": "x"})),
    "session file": NO_FILES,
}
RECORDINGS = {"probes": PROBES, "real_agentsession": REAL}
REPLAYS = [(name, entry) for name, table in RECORDINGS.items() for entry in replays(table)]


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    recording("probes")
    with (
        StubModel() as stub,
        open_gateway(variables=stub.variables, token=TOKEN, webhook_secret=SECRET) as running,
    ):
        yield running


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recorded_name_is_accounted_for(name: str) -> None:
    check_accounted(name, RECORDINGS[name], __file__)


@pytest.mark.parametrize(("name", "entry"), REPLAYS)
def test_a_recorded_request_is_answered_as_recorded_or_better(
    gateway: RunningGateway, name: str, entry: str
) -> None:
    recorded = recording(name)[entry]
    if isinstance(recorded, dict):  # the recording kept the body only
        recorded = [200, recorded]
    check_replay(gateway, recorded, replays(RECORDINGS[name])[entry], AUTHORIZED)


@pytest.mark.parametrize(
    ("name", "authorization"),
    [("auth none", ""), ("auth bad", "Bearer wrong"), ("auth ok", f"Bearer {TOKEN}")],
)
def test_the_token_opens_everything_and_health_is_open(
    gateway: RunningGateway, name: str, authorization: str
) -> None:
    for path, (status, body) in recording("probes")[name].items():
        answer = gateway.get(path, Authorization=authorization)
        check_answer(answer, status, body, ("sessions",))
    answer = gateway.get("/health", Authorization=authorization)
    assert answer.status == recording("probes")["auth health"]


def test_asking_for_the_memory_of_a_new_session_makes_none(gateway: RunningGateway) -> None:
    before = gateway.get("/ready", **AUTHORIZED).body["sessions"]
    assert gateway.get("/memory/status?sessionKey=new", **AUTHORIZED).status == 404
    assert gateway.get("/ready", **AUTHORIZED).body["sessions"] == before
    assert gateway.get("/sessions/new", **AUTHORIZED).status == 404
