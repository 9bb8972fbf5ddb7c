"""Real SDKs in a real gateway, against servers that speak the providers' wire protocols."""

from collections.abc import Iterator

import pytest

from actors.session import events as e
from tests.acceptance.conftest import KEY, PROVIDERS, OpenGateway, reach
from tests.acceptance.gateway import RunningGateway, check_log, events, until
from tests.wire.servers import (
    Ask,
    Finish,
    ModelServer,
    Refuse,
    Say,
    Stall,
    Think,
)


@pytest.fixture(
    scope="module",
    params=[
        ("gevent", "anthropic"),
        ("gthread", "openai"),
        pytest.param(("gevent", "openai"), marks=pytest.mark.exhaustive),
        pytest.param(("gthread", "anthropic"), marks=pytest.mark.exhaustive),
    ],
    ids="-".join,
)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture(scope="module")
def worker_class(kind: tuple[str, str]) -> str:
    return kind[0]


@pytest.fixture(scope="module")
def provider(kind: tuple[str, str]) -> str:
    return kind[1]


@pytest.fixture(scope="module")
def gateway(
    open_gateway: OpenGateway, worker_class: str, provider: str, server: ModelServer
) -> Iterator[RunningGateway]:
    with open_gateway(
        variables=reach(provider, server),
        worker_class=worker_class,
        model_stall_timeout_s=1,
        model_retries_max=1,
        model_retry_delay_s=0.01,
    ) as running:
        yield running
        check_log(running.folder, running)
        assert KEY not in running.log


def test_the_key_that_is_present_chooses_the_provider(
    gateway: RunningGateway, provider: str
) -> None:
    assert gateway.snapshot("web:main")["modelProvider"] == provider


def test_an_answer_comes_from_the_model_with_the_conversation_so_far(
    gateway: RunningGateway, server: ModelServer
) -> None:
    server.reply([Think(["Hm."]), Say(["It ", "is ", "late."]), Finish()])
    first = gateway.post("/sessions/talk/messages", {"text": "What time is it?"})
    assert first.body["response"] == "It is late."
    server.reply([Say(["Yes."]), Finish()])
    gateway.post("/sessions/talk/messages", {"text": "Really?"})
    told = str(server.requests[-1].body["messages"])
    for said in ("What time is it?", "It is late.", "Really?"):
        assert said in told
    parts = gateway.get("/sessions/talk/history").body["messages"][1]["parts"]
    assert [part["type"] for part in parts] == ["reasoning", "text"]


def test_a_tool_that_does_not_exist_is_told_to_the_model(
    gateway: RunningGateway, server: ModelServer, provider: str
) -> None:
    server.reply(
        [Ask("t1", "bash", ['{"command":', '"pwd"}']), Finish("tool_use")],
        [Say(["Then not."]), Finish()],
    )
    answer = gateway.post("/sessions/tools/messages", {"text": "Where am I?"})
    assert answer.body["response"] == "Then not."
    results = PROVIDERS[provider][0].told_results(server.requests[-1].body)
    assert "There is no tool named 'bash'." in str(results)


def test_a_provider_that_refuses_fails_the_run_and_the_next_one_works(
    gateway: RunningGateway, server: ModelServer
) -> None:
    server.reply(Refuse(401, "That key is not known."))
    refused = gateway.post("/sessions/refused/messages", {"text": "hi"})
    assert (refused.status, refused.body["ok"]) == (502, False)
    assert "401: That key is not known." in refused.body["error"]
    server.reply([Say(["Back."]), Finish()])
    assert gateway.post("/sessions/refused/messages", {"text": "hi"}).body["response"] == "Back."


def test_a_provider_that_stalls_fails_the_run_with_what_had_come(
    gateway: RunningGateway, server: ModelServer
) -> None:
    server.reply([Say(["Wha"]), Stall()])
    server.reply([Say(["Wait"]), Stall()])
    stalled = gateway.post("/sessions/stalled/messages", {"text": "hi"})
    assert stalled.status == 502
    assert "sent nothing for 1 s" in stalled.body["error"]
    assert stalled.body["response"] == "Wait"
    retried = [
        each for each in events(gateway.folder, "stalled") if isinstance(each, e.TurnRetried)
    ]
    assert [each.attempt for each in retried] == [2]


def test_a_call_that_fails_for_a_while_is_made_again(
    gateway: RunningGateway, server: ModelServer
) -> None:
    server.reply(Refuse(429, "Slow down.", {"retry-after": "0"}))
    server.reply([Say(["At last."]), Finish()])
    answer = gateway.post("/sessions/busy/messages", {"text": "hi"})
    assert answer.body["response"] == "At last."
    (retried,) = [
        each for each in events(gateway.folder, "busy") if isinstance(each, e.TurnRetried)
    ]
    assert retried.delay_ms == 0
    assert "429: Slow down." in retried.error


def test_an_abort_reaches_a_model_that_says_nothing_any_more(
    gateway: RunningGateway, server: ModelServer
) -> None:
    server.reply([Say(["Long "]), Stall()])
    gateway.post("/sessions/aborted/enqueue", {"text": "hi"})
    until(
        lambda: "Long " in str(gateway.get("/sessions/aborted/state").body.get("messages")),
        "the answer begins",
    )
    assert gateway.post("/sessions/aborted/abort").body == {"ok": True}
    server.reply([Say(["Next."]), Finish()])
    answer = gateway.post("/sessions/aborted/messages", {"text": "again"})
    assert answer.body["response"] == "Next."
