"""A database that is cut off, in the moment of a commit or in any other."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from persistence.engine import parse_url
from tests.acceptance.gateway import Answer, until, words
from tests.faults.checker import Seen, check
from tests.faults.conftest import Started
from tests.faults.world import (
    FaultyGateway,
    Following,
    Place,
    head_of,
    may_be_repeated,
    prompt,
    until_idle,
)
from tests.postgres.proxy import CommitProxy, Cut
from tests.postgres.server import connected

CUTS: tuple[Cut, ...] = ("before", "after")
TIMES_LONG = 40
LONG = words(400)
TERMINATE = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def proxy(postgres_place: Place) -> Iterator[CommitProxy]:
    url = parse_url(postgres_place.url)
    assert url.host is not None
    assert url.port is not None
    made = CommitProxy(url.host, url.port)
    yield made
    made.close()


def behind(place: Place, proxy: CommitProxy, **settings: object) -> FaultyGateway:
    """Return a gateway that reaches its database through the proxy only."""
    url = sa.make_url(place.url).set(host="127.0.0.1", port=proxy.port)
    shown = url.render_as_string(hide_password=False)
    return place.gateway(**settings | {"database_url": shown})


def cut_once(
    gateway: FaultyGateway, proxy: CommitProxy, cut: Cut, session: str, seen: Seen
) -> None:
    """Prompt a session while commits are cut, and repeat it with the same key until it holds."""
    cuts = proxy.cuts

    def let_go(answer: Answer) -> bool:
        again = may_be_repeated(answer)
        assert again or answer.status == 202, answer
        if proxy.cuts > cuts:
            proxy.cut = "nowhere"
        return again

    proxy.cut = cut
    first = prompt(gateway, seen, session, f"hello {session}", "key", again=let_go)
    assert proxy.cuts > cuts
    again = prompt(gateway, seen, session, f"hello {session}", "key")
    assert again.body["promptId"] == first.body["promptId"]


def test_a_prompt_whose_commit_is_cut_is_there_once_when_it_is_repeated(
    postgres_place: Place, proxy: CommitProxy, started: Started
) -> None:
    gateway = started(behind(postgres_place, proxy))
    seen = Seen()
    for cut in CUTS:
        cut_once(gateway, proxy, cut, f"cut:{cut}", seen)
    until_idle(gateway, seen.sessions)
    check(postgres_place.url, seen, gateways=[gateway.url])


def test_connections_that_are_ended_in_mid_run_lose_nothing(
    postgres_place: Place, started: Started
) -> None:
    gateway = started(postgres_place.gateway(demo_delay_ms=10))
    end_connections(postgres_place, gateway, times=2)


def end_connections(place: Place, gateway: FaultyGateway, times: int) -> None:
    """End all connections of the gateway while a session answers and somebody reads."""
    seen = Seen()
    with Following([gateway], "ended", seen.reader("ended")) as reader:
        for number in range(times):
            prompt(gateway, seen, "ended", LONG, str(number))
            tokens = reader.count("token")
            until(lambda tokens=tokens: reader.count("token") > tokens, "it answers")  # type: ignore[misc]
            with connected(parse_url(place.url)) as connection:
                ((ended,),) = connection.execute(TERMINATE).fetchall()
            assert ended >= 2  # the writer's, and the lease's
        prompt(gateway, seen, "ended", "the end", "end")
        until_idle(gateway, ["ended"])
        reader.until_at(head_of(gateway, "ended"))
    gateway.check(seen)


@pytest.mark.faults
@pytest.mark.parametrize("cut", CUTS)
def test_many_commits_that_are_cut_lose_and_repeat_nothing(
    postgres_place: Place, proxy: CommitProxy, started: Started, worker_class: str, cut: Cut
) -> None:
    gateway = started(behind(postgres_place, proxy, worker_class=worker_class))
    seen = Seen()
    for number in range(TIMES_LONG):
        cut_once(gateway, proxy, cut, f"cut:{number % 4}:{number}", seen)
    until_idle(gateway, seen.sessions)
    check(postgres_place.url, seen, gateways=[gateway.url])


@pytest.mark.faults
def test_connections_that_are_ended_again_and_again_lose_nothing(
    postgres_place: Place, started: Started, worker_class: str
) -> None:
    gateway = started(postgres_place.gateway(demo_delay_ms=10, worker_class=worker_class))
    end_connections(postgres_place, gateway, times=TIMES_LONG // 2)
