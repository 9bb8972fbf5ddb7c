"""Two clients on one session, while others delete, reset and abort it."""

import random
import threading
import time

import pytest

from tests.acceptance.gateway import Background, until, words
from tests.faults.checker import Seen
from tests.faults.conftest import Started
from tests.faults.world import (
    FaultyGateway,
    Following,
    Place,
    may_wait,
    path_of,
    prompt,
    until_idle,
)

LONG = words(400)
SEED = 20_261_124
LONG_S = 60.0
DISTURBANCES = (
    ("DELETE", ""),
    ("POST", "/abort"),
    ("POST", "/reset"),
    ("POST", "/steer"),
)


def test_two_clients_prompt_a_session_that_is_deleted_in_mid_run(
    place: Place, started: Started
) -> None:
    gateway = started(place.gateway(demo_delay_ms=5))
    seen = Seen()
    reader = seen.reader("shared")
    with gateway.stream(path_of("web:main", "/events")) as other:
        assert next(other.frames()).data["type"] == "hello"
        for number in range(2):
            prompt(gateway, seen, "shared", LONG, str(number))
        with gateway.stream(path_of("shared", "/events?after=0")) as stream:
            frames = stream.frames()
            for frame in frames:
                reader.take(frame)
                if frame.data["type"] == "token":
                    break
            clients = [
                Background(lambda key=key: prompt(gateway, seen, "shared", LONG, key))  # type: ignore[misc]
                for key in ("one", "other")
            ]
            assert [client.result().status for client in clients] == [202, 202]
            assert gateway.request("DELETE", path_of("shared")).status == 200
            for frame in frames:
                reader.take(frame)
        assert reader.frames[-1].data["type"] == "session_deleted"
        assert "aborted" in [frame.data["type"] for frame in reader.frames]
        assert gateway.get(path_of("shared", "/events")).status == 404
    prompt(gateway, seen, "shared", "again", "one")
    until_idle(gateway, ["shared"])
    assert gateway.snapshot("shared")["messageCount"] == 2
    gateway.check(seen)


@pytest.mark.faults
def test_a_minute_of_prompts_and_deletions_leaves_a_total_order(
    place: Place, started: Started, worker_class: str
) -> None:
    gateway = started(place.gateway(demo_delay_ms=2, worker_class=worker_class))
    seen = Seen()
    over = threading.Event()
    failed: list[object] = []

    def speak(name: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            answer = prompt(gateway, seen, "shared", words(20), f"{name}:{number}", again=may_wait)
            if answer.status != 202:
                failed.append(answer)

    with Following([gateway], "shared", seen.reader("shared")):
        clients = [Background(lambda name=name: speak(name)) for name in ("one", "other")]  # type: ignore[misc]
        disturb(gateway, random.Random(SEED), time.monotonic() + LONG_S, failed)
        over.set()
        for client in clients:
            client.result()
    until_idle(gateway, ["shared"])
    assert not failed
    until(lambda: gateway.get("/health").body["ready"], "it is ready")
    gateway.check(seen)


def disturb(
    gateway: FaultyGateway, dice: random.Random, deadline: float, failed: list[object]
) -> None:
    """Delete, abort, reset and steer the session at random until the deadline."""
    while time.monotonic() < deadline:
        time.sleep(dice.uniform(0, 0.3))
        method, path = dice.choice(DISTURBANCES)
        body = b'{"text": "and this"}' if path == "/steer" else b"{}"
        answer = gateway.request(method, path_of("shared", path), body if path else None)
        if answer.status >= 500:
            failed.append((method, path, answer))
