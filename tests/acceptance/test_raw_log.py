"""The raw log and the records of who read it, over HTTP."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.audit.exporting.lines import decode_line
from tests.acceptance.asking import AGENT, AGENT_HEADER, TOKEN, ask, get, headers_of, open_log
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    Background,
    RunningGateway,
    Stream,
    at_once,
    stored_events,
    stored_stream,
    until,
    words,
)

NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=TOKEN, heartbeat_s=0.3) as opened:
        yield opened


@pytest.fixture(scope="module")
def narrow(gateway: RunningGateway) -> str:
    """A token for the sessions narrow:… that may audit them."""
    body = {"name": "narrow", "scopes": ["audit", "read"], "keyPrefix": "narrow:"}
    token: str = ask(gateway, "POST", "/tokens", body).body["token"]
    return token


def all_lines(gateway: RunningGateway, path: str, token: str = TOKEN) -> list[bytes]:
    with open_log(gateway, path, token) as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"] == NDJSON
        return [line for line in stream.lines() if line != b"\n"]


def cursor_now(gateway: RunningGateway) -> str:
    cursor: str = get(gateway, "/log?after=end")["next"]
    return cursor


def test_the_lines_of_a_session_are_what_the_log_holds(gateway: RunningGateway) -> None:
    ask(gateway, "POST", "/sessions/raw:1/messages", {"text": words(30)})
    ask(gateway, "DELETE", "/sessions/raw:1")
    found = [decode_line(line) for line in all_lines(gateway, "/sessions/raw:1/log")]
    stored = stored_events(gateway.folder, "raw:1")
    assert found == [("session:raw:1", each) for each in stored]
    assert found[-1][1].type == "session.deleted"
    part = all_lines(gateway, "/sessions/raw:1/log?after=2&before=6&limit=2")
    assert [decode_line(line)[1].seq for line in part] == [3, 4]


def test_a_session_that_never_was_has_no_log(gateway: RunningGateway) -> None:
    assert ask(gateway, "GET", "/sessions/never/log").status == 404


def test_pages_of_a_session_hold_all_of_it_once(gateway: RunningGateway) -> None:
    ask(gateway, "POST", "/sessions/raw:2/messages", {"text": words(40)})
    seqs: list[int] = []
    after: int | None = 0
    while after is not None:
        page = get(gateway, f"/sessions/raw:2/log?after={after}&limit=3")
        seqs.extend(each["seq"] for each in page["events"])
        after = page.get("next")
    assert seqs == [each.seq for each in stored_events(gateway.folder, "raw:2")]


def test_events_are_found_by_type_run_and_principal(gateway: RunningGateway) -> None:
    ids = [
        ask(gateway, "POST", "/sessions/raw:3/enqueue", {"text": text}).body["promptId"]
        for text in ("one", "two")
    ]
    until(lambda: not get(gateway, "/sessions/raw:3")["session"]["processing"], "it is idle")
    for where in ("/sessions/raw:3/log?", "/log?stream=session:raw:3&"):
        of_run = get(gateway, f"{where}run={ids[1]}")["events"]
        assert {each["correlationId"] for each in of_run} == {ids[1]}
        assert of_run[0]["type"] == "prompt.queued"
        typed = get(gateway, f"{where}types=run.started,run.completed")["events"]
        assert [each["type"] for each in typed] == ["run.started", "run.completed"] * 2
        assert get(gateway, f"{where}types=token.issued,,")["events"] == []
        assert get(gateway, f"{where}principal=token:nobody")["events"] == []
        assert len(get(gateway, f"{where}principal=token:environment")["events"]) > 10


@pytest.mark.parametrize(
    "path",
    [
        "/sessions/raw:1/log?limit=0",
        "/sessions/raw:1/log?after=x",
        "/sessions/raw:1/log?after=-1",
        "/sessions/raw:1/log?after=1&after=2",
        "/sessions/raw:1/log?before=9&follow=1",
        "/sessions/raw:1/log?follow=perhaps",
        "/log?after=1",
        "/log?after=9223372036854775808-1",
        "/log?types=run.started&types=run.completed",
        "/log?types=run.started,no.such.type",
        "/sessions/raw:1/log?types=run.start",
        "/audit/access?limit=0",
        "/audit/access?from=yesterday",
    ],
)
def test_a_query_that_can_not_be_meant_is_refused(gateway: RunningGateway, path: str) -> None:
    assert ask(gateway, "GET", path).status == 400


def test_only_lines_can_be_followed(gateway: RunningGateway) -> None:
    assert ask(gateway, "GET", "/log?follow=1", Accept="application/json").status == 400


def followed(stream: Stream, done: Callable[[list[Any]], bool]) -> list[Any]:
    events: list[Any] = []
    for line in stream.lines():
        if line != b"\n":
            events.append(json.loads(line))
            if done(events):
                return events
    raise AssertionError("the stream has ended")


def completed(count: int) -> Callable[[list[Any]], bool]:
    def done(events: list[Any]) -> bool:
        return sum(each["type"] == "run.completed" for each in events) == count

    return done


def test_whoever_follows_sees_each_event_of_concurrent_prompts_once(
    gateway: RunningGateway,
) -> None:
    keys = [f"many:{number}" for number in range(6)]
    after = cursor_now(gateway)
    with (
        open_log(gateway, f"/log?follow=1&prefix=session:many:&after={after}") as everything,
        open_log(gateway, "/sessions/raw:2/log?follow=1") as another,
    ):
        reading = Background(lambda: followed(everything, completed(2 * len(keys))))
        at_once(
            lambda _wait, key=key, n=n: ask(  # type: ignore[misc]
                gateway, "POST", f"/sessions/{key}/messages", {"text": words(20 + n)}
            )
            for n in range(2)
            for key in keys
        )
        seen = reading.result()
        assert followed(another, lambda events: len(events) == 3)[0]["seq"] == 1
    for key in keys:
        of_key = [each["seq"] for each in seen if each["stream"] == f"session:{key}"]
        assert of_key == [each.seq for each in stored_events(gateway.folder, key)]
    cursors = [tuple(map(int, each["cursor"].split("-"))) for each in seen]
    assert cursors == sorted(set(cursors))


def test_a_followed_session_goes_on_over_its_deletion_and_is_silent_in_between(
    gateway: RunningGateway,
) -> None:
    ask(gateway, "POST", "/sessions/again/messages", {"text": "hi"})
    with open_log(gateway, "/sessions/again/log?follow=1&types=session.deleted") as stream:
        lines = stream.lines()
        assert [next(lines) for _ in range(3)] == [b"\n"] * 3  # heartbeats
        ask(gateway, "DELETE", "/sessions/again")
        assert json.loads(next(line for line in lines if line != b"\n"))["type"] == (
            "session.deleted"
        )


def test_a_token_for_some_sessions_sees_their_events_and_no_others(
    gateway: RunningGateway, narrow: str
) -> None:
    for key in ("narrow:1", "wide:1"):
        ask(gateway, "POST", f"/sessions/{key}/messages", {"text": "hi"})
    streams = {json.loads(each)["stream"] for each in all_lines(gateway, "/log", narrow)}
    assert streams == {"session:narrow:1"}
    for query in (
        "stream=gateway",
        "prefix=memory:",
        "prefix=session:wide",
        "stream=session:wide:1",
    ):
        assert all_lines(gateway, f"/log?{query}", narrow) == []

    def all_are_there() -> bool:
        everything = {json.loads(each)["stream"] for each in all_lines(gateway, "/log")}
        return {"gateway", "memory:gateway", "session:wide:1"} <= everything

    until(all_are_there, "runs are remembered")
    for path, status in (
        ("/sessions/wide:1/log", 404),
        ("/sessions/narrow:1/log?limit=1", 200),
        ("/audit/access", 403),
    ):
        assert gateway.request("GET", path, headers=headers_of(narrow)).status == status


def test_the_raw_log_is_for_the_scope_audit_and_ends_with_its_token(
    gateway: RunningGateway,
) -> None:
    reader = ask(gateway, "POST", "/tokens", {"name": "reader", "scopes": ["read"]}).body
    for path in ("/log", "/sessions/raw:2/log", "/audit/access"):
        refused = gateway.request("GET", path, headers=headers_of(reader["token"]))
        assert refused.status == 403
    auditor = ask(gateway, "POST", "/tokens", {"name": "auditor", "scopes": ["audit"]}).body
    with open_log(
        gateway, "/log?follow=1&after=end&types=session.held", auditor["token"]
    ) as stream:
        lines = stream.lines()
        assert next(lines) == b"\n"
        ask(gateway, "DELETE", f"/tokens/{auditor['issued']['id']}")
        assert b"".join(lines).strip() == b""


READS = (
    ("/history?limit=1", "history"),
    ("/state", "state"),
    ("/log?limit=1", "log"),
    ("/approvals", "approvals"),
    ("", "session"),
)


@pytest.fixture(scope="module")
def recording(gateway: RunningGateway) -> Iterator[RunningGateway]:
    ask(gateway, "POST", "/sessions/read/messages", {"text": "hi"})
    assert ask(gateway, "GET", "/sessions/read/history").status == 200
    switch(gateway, on=True)
    yield gateway
    switch(gateway, on=False)


def switch(gateway: RunningGateway, *, on: bool) -> None:
    patch = {"gateway": {"audit": {"reads": on}}}
    assert ask(gateway, "PATCH", "/config", patch).status == 200
    for _process in range(2):  # where there are two, each has to have heard of it
        assert get(gateway, "/config")["gateway"]["audit"] == {"reads": on}


def records(gateway: RunningGateway, query: str = "") -> list[Any]:
    found: list[Any] = get(gateway, f"/audit/access?{query}")["records"]
    return found


def test_each_read_is_in_the_log_before_it_is_answered(recording: RunningGateway) -> None:
    for path, resource in READS:
        answer = ask(
            recording,
            "GET",
            f"/sessions/read{path}",
            **AGENT_HEADER,
        )
        stored = stored_stream(recording.folder, "access")[-1]
        assert stored.payload is not None
        payload = json.loads(stored.payload)
        assert payload["request"]["id"] == answer.headers["X-Request-Id"]
        assert (payload["resource"], payload["session_key"]) == (resource, "read")
    with recording.stream("/sessions/read/events", headers=headers_of()):
        newest = records(recording, "session=read&newest=true&limit=1")
    assert [each["resource"] for each in newest] == ["events"]
    of_session = records(recording, "session=read")
    assert [each["resource"] for each in of_session][: len(READS)] == [name for _, name in READS]
    assert of_session[0]["agent"] == AGENT
    assert of_session[0]["query"] == "limit=1"


def test_reading_the_records_is_one_itself(recording: RunningGateway) -> None:
    records(recording, "session=nobody")
    (newest,) = records(recording, "newest=true&limit=1")
    assert newest["resource"] == "audit.access"
    assert newest["query"] == "newest=true&limit=1"


def test_records_are_found_by_who_and_when(recording: RunningGateway) -> None:
    began = time.time_ns() // 1_000_000
    ask(recording, "GET", "/sessions/read/state")
    ended = time.time_ns() // 1_000_000
    query = f"principal=token:environment&session=read&from={began}&to={ended}"
    assert [each["resource"] for each in records(recording, query)] == ["state"]
    assert records(recording, "principal=token:nobody") == []
    assert records(recording, f"from={began + 3_600_000}") == []


def test_pages_of_records_hold_all_of_them_once(recording: RunningGateway) -> None:
    at_once(lambda _wait: ask(recording, "GET", "/sessions/read/history") for _ in range(20))
    last = len(stored_stream(recording.folder, "access"))
    for extra, cursor in (("", "after"), ("&newest=true", "before")):
        seqs: list[int] = []
        place = ""
        while True:
            page = get(recording, f"/audit/access?limit=7{extra}{place}")
            seqs.extend(each["seq"] for each in page["records"] if each["seq"] <= last)
            if "next" not in page or (cursor == "after" and page["next"] > last):
                break
            place = f"&{cursor}={page['next']}"
        assert sorted(seqs) == list(range(1, last + 1))


def test_nothing_is_recorded_while_it_is_off(recording: RunningGateway) -> None:
    switch(recording, on=False)
    before = len(stored_stream(recording.folder, "access"))
    ask(recording, "GET", "/sessions/read/history")
    assert len(stored_stream(recording.folder, "access")) == before
    switch(recording, on=True)
