"""What is old goes by itself, and nothing that has to be kept goes with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.audit.erasing.retention import DAY_MS, DELTAS, Retention
from actors.gateway_state import CODEC, STREAM, DeltasErased, EraseDeltas, GatewayState
from actors.gateway_state import decide as decide_gateway
from actors.gateway_state import evolve as evolve_gateway
from actors.replay import decode, stream_of
from actors.session import events as e
from actors.session.evolve import evolve
from actors.session.state import SessionState
from actors.timers import now_ms
from persistence.records import Cursor, StoredEvent
from tests.integration.test_erasure import Client, canary_of, opened
from tests.unit.actors.world import eventually
from web.ai_sdk import UiMessageStream


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    rules = [{"prefix": "short:", "days": 3}, {"prefix": "kept:", "days": 30_000}]
    folder = tmp_path_factory.mktemp("retention")
    made = Client(folder, retention=rules, primary_session="short:primary")
    yield made
    made.gateway.stop(0)


def run_later(client: Client, days: float) -> None:
    """Have retention run as it will so many days from now."""
    gateway = client.gateway
    Retention(
        gateway.log,
        gateway.eraser,
        lambda: gateway.settings,
        lambda: gateway.admin.state,
        gateway.admin.ask,
        lambda: now_ms() + int(days * DAY_MS),
    ).run()


def deltas(client: Client, key: str) -> list[StoredEvent]:
    head = client.gateway.log.head(stream_of(key))
    assert head is not None
    return [each for each in client.gateway.log.read(head) if each.type in DELTAS]


def left(client: Client, key: str) -> list[bool]:
    return [each.payload is not None for each in deltas(client, key)]


def shown(client: Client, key: str) -> list[Any]:
    """Return what readers see of a session."""
    paths = [f"/sessions/{key}{path}" for path in ("", "/history", "/state")]
    return [client.ask("GET", path) for path in paths]


def test_deltas_go_when_they_are_old_and_nobody_sees_a_difference(client: Client) -> None:
    client.say("told", "one two three")
    before = shown(client, "told")
    run_later(client, 6.9)
    assert all(left(client, "told"))
    run_later(client, 7.1)
    assert not any(left(client, "told"))
    assert shown(client, "told") == before
    client.check_chain(stream_of("told"))
    head = client.gateway.log.head(stream_of("told"))
    assert head is not None
    state = SessionState("told")
    for stored in client.gateway.log.read(head):
        state = evolve(state, decode(head.stream_id, stored))
    assert state == client.gateway.registry.state("told")


def test_the_log_tells_up_to_when_deltas_are_gone_and_how_many_went(client: Client) -> None:
    client.say("counted", "a b c d")
    sizes = [len(each.payload or b"") for each in deltas(client, "counted")]
    run_later(client, 8)
    head = client.gateway.log.head(STREAM)
    assert head is not None
    stored = list(client.gateway.log.read(head))[-1]
    assert stored.payload is not None
    event = CODEC.decode(stored.type, stored.schema_version, stored.payload)
    assert isinstance(event, DeltasErased)
    assert (event.events, event.bytes) == (len(sizes), sum(sizes))
    assert all(each.recorded_at < event.before_us for each in deltas(client, "counted"))
    version = head.version
    run_later(client, 8)
    head = client.gateway.log.head(STREAM)
    assert head is not None
    assert head.version == version


def test_a_chat_is_shown_whole_after_its_deltas_are_gone(client: Client) -> None:
    client.say("chat", "several words to stream")
    run_later(client, 8)
    head = client.gateway.log.head(stream_of("chat"))
    assert head is not None
    events = [decode(head.stream_id, each) for each in client.gateway.log.read(head)]
    prompt_id = next(each.prompt_id for each in events if isinstance(each, e.RunStarted))
    message = UiMessageStream(prompt_id)
    chunks = [chunk for event in events for chunk in message.chunks(event)]
    texts = [chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta"]
    assert texts == ["several words to stream"]


def test_deltas_of_a_session_on_hold_stay_until_it_is_released(client: Client) -> None:
    client.say("hold", "words to keep")
    client.ask("POST", "/sessions/hold/hold", {"reason": "case"})
    client.say("free", "words to lose")
    run_later(client, 8)
    assert all(left(client, "hold"))
    assert not any(left(client, "free"))
    client.ask("DELETE", "/sessions/hold/hold")
    run_later(client, 8)
    assert not any(left(client, "hold"))


def test_deltas_of_a_message_that_is_not_whole_yet_stay(tmp_path: Path) -> None:
    with opened(tmp_path, demo_deltas=100_000) as client:
        client.ask("POST", "/sessions/k/enqueue", {"text": "word"})
        eventually(lambda: bool(deltas(client, "k")))
        run_later(client, 8)
        assert all(left(client, "k"))


def test_only_who_looked_furthest_erases_deltas() -> None:
    command = EraseDeltas(1, 9, 1, 1, Cursor(0, 5), Cursor(0, 7), ())
    behind = GatewayState(deltas_erased_until=Cursor(0, 6))
    assert decide_gateway(command, behind) == ()
    (event,) = decide_gateway(command, GatewayState())
    after = evolve_gateway(GatewayState(), event)
    assert (after.deltas_erased_until, after.deltas_erased_before_us) == (Cursor(0, 7), 9)


def test_idle_sessions_are_erased_by_the_first_rule_that_fits(client: Client) -> None:
    for key in ("short:a", "short:held", "short:gone", "kept:b", "other", "short:primary"):
        client.say(key, canary_of(key))
    client.ask("POST", "/sessions/short:held/hold", {"reason": "case"})
    client.ask("DELETE", "/sessions/short:gone")
    run_later(client, 2.9)
    assert client.traces("short:a")
    run_later(client, 3.1)
    assert client.traces("short:a") == []
    assert client.traces("short:gone") == []
    for key in ("short:held", "kept:b", "other", "short:primary"):
        assert f"/sessions/{key}/history" in client.traces(key)
    (told,) = client.ask("GET", "/sessions/short:a/audit/erasures")["erasures"]
    assert (told["reason"], told["principal"]) == (
        "retention: short: after 3 days",
        "gateway",
    )
    seq = told["seq"]
    run_later(client, 30)
    (told,) = client.ask("GET", "/sessions/short:a/audit/erasures")["erasures"]
    assert told["seq"] == seq
