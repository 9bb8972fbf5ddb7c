"""Lists are fetched when asked for, by one at a time, and kept."""

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.models.base import ModelError
from actors.models.info import Facts
from actors.models.listing import KEPT_S, PAUSE_AFTER_FAILURE_S, Listed, ProviderList
from tests.unit.actors.world import DEADLINE_S

CALLERS = 8


class Provider:
    """Answers, fails or waits, as the test wants; each list names the fetch that got it."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.fetches = 0
        self.fails = False
        self.answers = threading.Event()
        self.answers.set()
        self.list = ProviderList(self.fetch, lambda: self.now_s)

    def fetch(self) -> Mapping[str, Facts]:
        self.fetches += 1
        assert self.answers.wait(DEADLINE_S)
        if self.fails:
            raise ModelError("The provider answered 500.")
        return {f"model-{self.fetches}": Facts()}

    def listed(self) -> list[str] | None:
        had = self.list.get()
        return None if had is None else list(had.facts)


@pytest.fixture
def provider() -> Provider:
    return Provider()


def test_nothing_is_fetched_before_somebody_asks(provider: Provider) -> None:
    assert provider.list.had is None
    assert provider.fetches == 0


def test_a_list_is_kept_and_then_fetched_again(provider: Provider) -> None:
    assert provider.listed() == ["model-1"]
    provider.now_s += KEPT_S - 1
    assert provider.listed() == ["model-1"]
    provider.now_s += 1
    assert provider.listed() == ["model-2"]


def test_a_clock_that_went_back_keeps_no_list_for_longer(provider: Provider) -> None:
    provider.listed()
    provider.now_s -= 1
    assert provider.listed() == ["model-2"]


def test_callers_at_once_fetch_once(provider: Provider) -> None:
    provider.answers.clear()
    with ThreadPoolExecutor(CALLERS) as pool:
        waiting = [pool.submit(provider.listed) for _ in range(CALLERS)]
        provider.answers.set()
        assert [each.result() for each in waiting] == [["model-1"]] * CALLERS
    assert provider.fetches == 1


def test_a_failure_is_logged_and_followed_by_a_pause(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.fails = True
    with caplog.at_level(logging.WARNING):
        assert provider.listed() is None
        assert provider.listed() is None
    assert provider.fetches == 1
    assert caplog.messages == ["There is no list of models: The provider answered 500."]
    provider.fails = False
    provider.now_s += PAUSE_AFTER_FAILURE_S
    assert provider.listed() == ["model-2"]


def test_what_was_had_before_a_failure_stays(provider: Provider) -> None:
    provider.listed()
    provider.fails = True
    provider.now_s += KEPT_S
    assert provider.listed() == ["model-1"]
    assert provider.fetches == 2


def test_a_fetch_that_takes_long_is_not_waited_for(provider: Provider) -> None:
    provider.answers.clear()
    provider.list = ProviderList(provider.fetch, lambda: provider.now_s, wait_s=0.01)
    assert provider.listed() is None
    assert provider.listed() is None
    through = provider.list.refresh()
    provider.answers.set()
    assert through is not None
    assert through.wait(DEADLINE_S)
    assert provider.listed() == ["model-1"]


def test_a_short_name_finds_what_is_listed_by_its_whole_one() -> None:
    ids = ("claude-haiku-4-5-20251001", "claude-haiku-4-5-20250901", "llama3.2:latest", "gpt-4o")
    listed = Listed({each: Facts(name=each) for each in ids})
    found = [listed.find(each) for each in ("claude-haiku-4-5", "llama3.2", "gpt-4o", "gpt", "")]
    assert [each and each.name for each in found] == [ids[0], ids[2], ids[3], None, None]
