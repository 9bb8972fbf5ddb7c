"""Two gateways over one PostgreSQL: each request goes to the one the last did not go to.

TEST_TWO_PROCESSES=1 runs every acceptance test so; here is what only two can show.
"""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.acceptance.gateway import (
    Background,
    ExecutedGateway,
    RunningGateway,
    Stream,
    at_once,
    text_of,
    until,
    words,
)
from tests.chaos.cluster import children_of
from tests.postgres.server import PostgresServer, connected

LEASE_S = 2


class Pair:
    """The gateways ``a`` and ``b``, over one database."""

    def __init__(self, a: RunningGateway, b: RunningGateway, url: sa.URL) -> None:
        self.a, self.b = a, b
        self._url = url

    def owner(self, key: str) -> str | None:
        """Return the name of the process that owns a session."""
        with connected(self._url) as connection:
            row = connection.execute(
                "SELECT owner FROM streams WHERE stream_id = %s", (f"session:{key}",)
            ).fetchone()
        return None if row is None else row[0]

    def own(self, gateway: RunningGateway, key: str) -> None:
        """Have a gateway own a new session."""
        answer = gateway.post(f"/sessions/{key}/messages", {"text": "mine"})
        assert answer.status == 200
        (worker,) = children_of(gateway.pid)
        assert f":{worker}:" in str(self.owner(key))


@pytest.fixture(scope="module", params=["gevent", "gthread"])
def pair(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgres.database())
        shown = url.render_as_string(hide_password=False)
        settings = {"database_url": shown, "lease_s": LEASE_S, "worker_class": request.param}
        a, b = (
            stack.enter_context(ExecutedGateway(tmp_path_factory.mktemp(name), **settings))
            for name in ("a", "b")
        )
        yield Pair(a, b, url)


def ids_until(stream: Stream, kind: str) -> list[int]:
    """Return the ids of a stream's frames up to the first of a type, hello left out."""
    ids: list[int] = []
    for frame in stream.frames():
        if frame.data["type"] == "hello":
            continue
        assert frame.id is not None
        ids.append(frame.id)
        if frame.data["type"] == kind:
            return ids
    raise AssertionError(f"no {kind} among {ids}")


def test_a_prompt_is_answered_by_the_process_that_does_not_own_the_session(pair: Pair) -> None:
    pair.own(pair.a, "elsewhere")
    answer = pair.b.post("/sessions/elsewhere/messages", {"text": "from afar"})
    assert (answer.status, answer.body["response"]) == (200, "from afar")
    messages = pair.b.get("/sessions/elsewhere/history").body["messages"]
    assert [text_of(each) for each in messages] == ["mine", "mine", "from afar", "from afar"]
    assert pair.a.get("/sessions/elsewhere/history").body["messages"] == messages


def test_both_stream_the_same_bytes_from_the_start(pair: Pair) -> None:
    pair.own(pair.a, "watched")
    with (
        pair.a.stream("/sessions/watched/events?after=0") as one,
        pair.b.stream("/sessions/watched/events?after=0") as other,
    ):
        read = [Background(lambda s=each: take(s, "aborted")) for each in (one, other)]
        pair.b.post("/sessions/watched/enqueue", {"text": words(400)})
        pair.a.until_answering("watched")
        assert pair.b.post("/sessions/watched/abort", {}).body == {"ok": True}
        first, second = (each.result() for each in read)
    assert first == second
    assert len(first) > 10


def take(stream: Stream, kind: str) -> list[bytes]:
    raw: list[bytes] = []
    for frame in stream.frames():
        if frame.data["type"] != "hello":
            raw.append(frame.raw)
        if frame.data["type"] == kind:
            return raw
    raise AssertionError(f"no {kind}")


def test_the_log_of_all_streams_is_followed_in_one_process_whoever_writes(pair: Pair) -> None:
    keys = ("both:a", "both:b")
    for gateway, key in ((pair.a, keys[0]), (pair.b, keys[1])):
        pair.own(gateway, key)
    with pair.b.stream("/log?follow=1&prefix=session:both:") as stream:
        reading = Background(lambda: lines_until(stream, "run.completed", 10))
        answers = at_once(
            lambda _wait, gateway=gateway, key=key: gateway.post(  # type: ignore[misc]
                f"/sessions/{key}/messages", {"text": words(30)}
            )
            for gateway in (pair.a, pair.b, pair.a, pair.b)
            for key in keys
        )
        seen = reading.result()
    for key in keys:
        stored = pair.a.get(f"/sessions/{key}/log", Accept="application/json").body["events"]
        assert seqs_of(seen, key) == [each["seq"] for each in stored]
    asked = {each["payload"]["request"]["id"] for each in seen if each["type"] == "prompt.queued"}
    assert asked >= {each.headers["X-Request-Id"] for each in answers}  # also of those from afar
    assert len(asked) == len(answers) + len(keys)  # and of those by which each got its owner


def lines_until(stream: Stream, kind: str, count: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for line in stream.lines():
        if line != b"\n":
            events.append(json.loads(line))
            if sum(each["type"] == kind for each in events) == count:
                return events
    raise AssertionError(f"not {count} times {kind}")


def seqs_of(events: list[dict[str, Any]], key: str) -> list[int]:
    return [each["seq"] for each in events if each["stream"] == f"session:{key}"]


def test_the_same_prompt_twice_at_two_processes_is_one(pair: Pair) -> None:
    key = {"Idempotency-Key": "the same"}
    first = pair.a.post("/sessions/once/enqueue", {"text": "hi"}, **key)
    second = pair.b.post("/sessions/once/enqueue", {"text": "hi"}, **key)
    assert first.body == second.body
    other = pair.b.post("/sessions/once/enqueue", {"text": "something else"}, **key)
    assert other.status == 422


def test_a_refusal_comes_through_as_it_is(pair: Pair) -> None:
    pair.own(pair.a, "full")
    for gateway in (pair.a, pair.b) * 5:
        gateway.post("/sessions/full/enqueue", {"text": words(5_000)})
    answers = [each.post("/sessions/full/enqueue", {"text": "x"}) for each in (pair.a, pair.b)]
    assert [each.status for each in answers] == [429, 429]
    assert answers[0].body["error"] == answers[1].body["error"]
    pair.b.post("/sessions/full/abort", {"queue": True})


def test_the_lines_of_one_are_among_those_of_the_other(pair: Pair) -> None:
    pair.own(pair.a, "told")
    until(
        lambda: any("session=told" in line for line in pair.b.get("/logs").body["logs"]),
        "the line is there",
    )


def test_memory_is_shared(pair: Pair) -> None:
    remembered = pair.a.post("/memory/remember", {"content": "The owner likes kayaks."})
    assert remembered.status == 200, remembered.body
    found = pair.b.post("/memory/search", {"query": "kayaks"}).body
    assert "kayaks" in str(found)


def test_what_a_stopping_process_does_not_work_on_goes_on_in_the_other_at_once(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with postgres.database() as url:
        shown = url.render_as_string(hide_password=False)
        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        with (
            ExecutedGateway(folders[0], database_url=shown, demo_delay_ms=20, grace_s=1) as a,
            ExecutedGateway(folders[1], database_url=shown) as b,
        ):
            pair = Pair(a, b, url)
            pair.own(a, "k")
            a.post("/sessions/k/enqueue", {"text": words(1_000)})
            a.post("/sessions/k/enqueue", {"text": "later"})
            with b.stream("/sessions/k/events") as stream:
                a.until_answering("k")
                stopping = Background(a.terminate)
                ids_until(stream, "error")  # interrupted when the grace was over
                ids_until(stream, "message_complete")
                stopping.result()
            b.until_idle("k")
            last = b.get("/sessions/k/history").body["messages"][-1]
            assert text_of(last) == "later"
            with connected(url) as connection:
                assert connection.execute("SELECT count(*) FROM workers").fetchone() == (1,)


def test_a_worker_that_was_paused_beyond_its_lease_writes_nothing_stale(pair: Pair) -> None:
    pair.own(pair.a, "paused")
    pair.a.post("/sessions/paused/enqueue", {"text": words(3_000)})
    pair.a.until_answering("paused")
    (worker,) = children_of(pair.a.pid)
    with pair.b.stream("/sessions/paused/events") as stream:
        os.kill(worker, signal.SIGSTOP)
        try:
            ids = ids_until(stream, "error")
        finally:
            os.kill(worker, signal.SIGCONT)
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    answer = pair.a.post("/sessions/paused/messages", {"text": "awake"})
    assert (answer.status, answer.body["response"]) == (200, "awake")


def test_a_fork_is_made_of_and_into_sessions_that_the_other_process_owns(pair: Pair) -> None:
    pair.own(pair.a, "fork:source")
    pair.own(pair.b, "fork:target")
    assert pair.b.request("DELETE", "/sessions/fork:target").status == 200
    made = pair.b.post("/sessions/fork:source/fork", {"key": "fork:new"})
    assert (made.status, made.body["session"]["messageCount"]) == (201, 2)
    made = pair.a.post("/sessions/fork:source/fork", {"key": "fork:target"})
    assert (made.status, made.body["session"]["messageCount"]) == (201, 2)
    (worker,) = children_of(pair.b.pid)
    assert f":{worker}:" in str(pair.owner("fork:target"))
    again = pair.b.post("/sessions/fork:source/fork", {"key": "fork:target"})
    assert (again.status, again.body["made"]) == (200, False)
    for gateway in (pair.a, pair.b):
        compared = gateway.get("/sessions/fork:source/diff?other=fork:target").body["comparison"]
        assert (compared["common"], compared["mine"]["messages"]) == (2, [])
        answer = gateway.post("/sessions/fork:target/messages", {"text": "and on"})
        assert answer.body["response"] == "and on"
        run = gateway.get("/sessions/fork:target/runs?limit=1").body["runs"][0]
        model = {"provider": "demo", "modelId": "echo"}
        rerun = gateway.post(f"/sessions/fork:target/runs/{run['id']}/rerun", model)
        assert rerun.status == 202
