"""Several processes over one database: an owner that is paused, and requests that repeat."""

import os
import signal
from typing import Any

import pytest

from persistence.engine import parse_url
from tests.acceptance.gateway import Answer, at_once, until, words
from tests.faults.checker import Seen
from tests.faults.conftest import Started
from tests.faults.world import (
    CUT,
    FaultyGateway,
    Following,
    Place,
    head_of,
    may_be_repeated,
    path_of,
    prompt,
    until_idle,
)
from tests.postgres.server import connected

LEASE_S = 1
CYCLES = 3
CYCLES_LONG = 200
REPEATS = 100
LONG = words(1_000)
OWNER = (
    "SELECT owner, epoch FROM streams WHERE stream_id = %s AND owner IN (SELECT name FROM workers)"
)


@pytest.fixture
def pair(postgres_place: Place, started: Started) -> list[FaultyGateway]:
    """Two gateways over one database."""
    gateways = []
    for name in ("one", "other"):
        folder = postgres_place.folder / name
        folder.mkdir()
        place = Place(folder, "postgres", postgres_place.url)
        gateways.append(started(place.gateway(lease_s=LEASE_S, demo_delay_ms=10)))
    return gateways


def owner_of(place: Place, session: str) -> tuple[int, int] | None:
    """Return the process that owns a session, and its epoch; None while nobody does."""
    with connected(parse_url(place.url)) as connection:
        found: Any = connection.execute(OWNER, (f"session:{session}",)).fetchone()
    if found is None:
        return None
    return int(found[0].split(":")[1]), found[1]


def pause_owners(place: Place, pair: list[FaultyGateway], cycles: int) -> None:
    """Pause a session's owner until another one has it, and let it go on, again and again."""
    seen = Seen()
    with Following(list(pair), "paused", seen.reader("paused")) as reader:
        epochs = [pause_owner(place, pair, seen, reader, number) for number in range(cycles)]
        assert epochs == sorted(set(epochs)), "each pause is another owner's turn"
        until_idle(pair[0], ["paused"])
        reader.until_at(head_of(pair[0], "paused"))
    for gateway in pair:
        gateway.check(seen)


def pause_owner(
    place: Place, pair: list[FaultyGateway], seen: Seen, reader: Following, number: int
) -> int:
    """Have the session answered, pause its owner in the middle; return the epoch that follows."""
    prompt(list(pair), seen, "paused", LONG, str(number))
    tokens = reader.count("token")
    until(lambda: reader.count("token") > tokens, "the session is answering")
    owned = until(lambda: owner_of(place, "paused"), "somebody owns it")
    paused, epoch = owned
    os.kill(paused, signal.SIGSTOP)
    try:
        until(lambda: is_newer(owner_of(place, "paused"), owned), "another one owns it")
    finally:
        os.kill(paused, signal.SIGCONT)
    for gateway in pair:  # the one that slept knows by now, or finds out
        until(lambda gateway=gateway: has_ended(gateway, number), "the run is over")  # type: ignore[misc]
    return epoch


def is_newer(owner: tuple[int, int] | None, before: tuple[int, int]) -> bool:
    return owner is not None and owner[0] != before[0] and owner[1] > before[1]


def has_ended(gateway: FaultyGateway, number: int) -> bool:
    try:
        return not gateway.snapshot("paused").get("processing", True)
    except CUT:
        return False


def test_an_owner_that_is_paused_beyond_its_lease_writes_nothing_more(
    postgres_place: Place, pair: list[FaultyGateway]
) -> None:
    repeat_at_once(pair)
    pause_owners(postgres_place, pair, CYCLES)


@pytest.mark.faults
def test_two_hundred_pauses_leave_no_stale_event(
    postgres_place: Place, pair: list[FaultyGateway]
) -> None:
    pause_owners(postgres_place, pair, CYCLES_LONG)


def repeat_at_once(pair: list[FaultyGateway]) -> None:
    """Send one prompt many times at once to both processes: it is one prompt."""
    seen = Seen()

    def ask(number: int) -> Any:
        def call(met: Any) -> Answer:
            met()
            body, key = {"text": "once"}, {"Idempotency-Key": "same"}
            while True:
                answer = pair[number % 2].post(path_of("once", "/enqueue"), body, **key)
                if not may_be_repeated(answer):
                    return answer

        return call

    answers = at_once([ask(number) for number in range(REPEATS)])
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["promptId"] for answer in answers}) == 1
    seen.acknowledged("once", answers[0].body["promptId"], "same")
    until_idle(pair[0], ["once"])
    for gateway in pair:
        gateway.check(seen)


@pytest.mark.faults
def test_a_prompt_sent_again_and_again_to_two_processes_is_one_prompt(
    pair: list[FaultyGateway],
) -> None:
    for _ in range(5):
        repeat_at_once(pair)
