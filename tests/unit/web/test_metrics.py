"""What is counted: of requests, events, commits and ownership; and what is said of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon
import pytest
from falcon.testing import TestClient

from actors.feed import Committed
from actors.session import events as e
from actors.session.messages import AssistantMessage, Usage, UserMessage
from actors.session.state import ModelRef, Run, SessionState
from web.app import RequestMetrics, create_app
from web.bootstrap import Gateway
from web.metrics import MODELS_MAX, OPEN_RUNS_MAX, Metrics
from web.settings import load_settings

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "docs" / "deploy" / "grafana-dashboard.json"
STATE = SessionState("k")
RESUMED = SessionState("k", run=Run("p", "messages", "", 1_000, 3, 2))
CHOSEN = SessionState("k", model=ModelRef("openai", "mine"))
USAGE = Usage(7, 5, 3, 2, 0.25)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"sessiond_{name}", labels) or 0.0


def commit(metrics: Metrics, *events: e.Event, key: str = "k", state: SessionState = STATE) -> None:
    metrics.committed(key, [Committed(seq, event, state, 9) for seq, event in enumerate(events)])


def answer(model_id: str = "echo", **fields: Any) -> e.MessageCompleted:
    return e.MessageCompleted(AssistantMessage((), 1, "demo", model_id, **fields))


def populated() -> Metrics:
    """Return metrics of a process in which everything has happened once."""
    metrics = Metrics()
    commit(
        metrics,
        e.RunStarted("p", 1),
        e.ToolCompleted("c", "read", "ok", (), 2),
        answer(),
        e.TurnEnded(1, "stop", 3, USAGE),
        e.RunCompleted("p", 4),
    )
    metrics.request("GET", "/health", 200, 0.001)
    metrics.batch(3, 0.01, failed=False)
    metrics.inbox_ask(0.01, "answered")
    return metrics


class TestEvents:
    def test_each_is_counted_by_its_type(self, metrics: Metrics) -> None:
        commit(metrics, e.MessageStarted("assistant", 1), *[e.TextDelta(0, "x")] * 48)
        commit(metrics, e.TextDelta(0, "y"), e.ThinkingDelta(0, "z"))
        assert value(metrics, "events_total", type="text.delta") == 49
        assert value(metrics, "events_total", type="thinking.delta") == 1
        assert value(metrics, "events_total", type="message.started") == 1

    @pytest.mark.parametrize(
        ("end", "outcome"),
        [
            (e.RunCompleted("p", 3_500), "completed"),
            (e.RunFailed("p", "no", 3_500), "failed"),
            (e.RunAborted("p", 3_500), "aborted"),
            (e.RunInterrupted("p", "drained", 3_500), "interrupted"),
        ],
    )
    def test_a_run_has_an_outcome_and_a_duration(
        self, metrics: Metrics, end: e.Event, outcome: str
    ) -> None:
        commit(metrics, e.RunStarted("p", 1_000))
        commit(metrics, e.RunStarted("q", 9_000), key="another")
        commit(metrics, end)
        assert value(metrics, "runs_total", outcome=outcome) == 1
        assert value(metrics, "run_duration_seconds_count", outcome=outcome) == 1
        assert value(metrics, "run_duration_seconds_sum", outcome=outcome) == 2.5

    def test_a_run_that_began_elsewhere_has_a_duration_only_if_it_went_on_here(
        self, metrics: Metrics
    ) -> None:
        commit(metrics, e.RunInterrupted("p", "its process died", 9_000))
        assert value(metrics, "runs_total", outcome="interrupted") == 1
        assert value(metrics, "run_duration_seconds_count", outcome="interrupted") == 0
        commit(metrics, e.TurnStarted(2, 2_000), state=RESUMED)
        commit(metrics, e.RunCompleted("p", 4_000))
        assert value(metrics, "run_duration_seconds_sum", outcome="completed") == 3

    def test_a_clock_that_went_back_makes_no_negative_duration(self, metrics: Metrics) -> None:
        commit(metrics, e.RunStarted("p", 5_000), e.RunCompleted("p", 4_000))
        assert value(metrics, "run_duration_seconds_sum", outcome="completed") == 0

    def test_runs_whose_end_never_comes_are_forgotten(self, metrics: Metrics) -> None:
        for number in range(OPEN_RUNS_MAX + 1):
            commit(metrics, e.RunStarted("p", 1), key=str(number))
        commit(metrics, e.RunCompleted("p", 2), key="0")
        commit(metrics, e.RunCompleted("p", 2), key=str(OPEN_RUNS_MAX))
        assert value(metrics, "run_duration_seconds_count", outcome="completed") == 1

    def test_tools_retries_and_approvals(self, metrics: Metrics) -> None:
        commit(
            metrics,
            e.ToolCompleted("c", "bash", "denied", (), 2),
            e.TurnRetried(1, 2, "429", 1_000, 3),
            e.ApprovalRequested("a", "c", "bash", {}, "a rule", 4, 5),
            e.ApprovalResolved("a", "c", approved=False, reason="", at=6),
        )
        assert value(metrics, "tool_calls_total", outcome="denied") == 1
        assert value(metrics, "model_retries_total") == 1
        assert value(metrics, "approvals_requested_total") == 1
        assert value(metrics, "approvals_resolved_total", decision="denied") == 1


class TestSpending:
    def test_tokens_and_cost_are_those_of_the_model_that_answered(self, metrics: Metrics) -> None:
        commit(metrics, e.RunStarted("p", 1), answer())
        steered = e.MessageCompleted(UserMessage((), 2))
        broken = e.MessageCompleted(AssistantMessage((), 2, stop_reason="retried"))
        commit(metrics, steered, broken, e.TurnEnded(1, "stop", 3, USAGE), state=CHOSEN)
        taken = {
            direction: value(metrics, "model_tokens_total", model="demo/echo", direction=direction)
            for direction in ("input", "output", "cache_read", "cache_write")
        }
        assert taken == {"input": 7, "output": 5, "cache_read": 3, "cache_write": 2}
        assert value(metrics, "model_cost_usd_total", model="demo/echo") == 0.25

    @pytest.mark.parametrize(("state", "model"), [(CHOSEN, "openai/mine"), (STATE, "unknown")])
    def test_a_summary_outside_a_run_counts_for_the_chosen_model(
        self, metrics: Metrics, state: SessionState, model: str
    ) -> None:
        commit(metrics, e.ContextCompacted("sum", 3, 1, usage=USAGE), state=state)
        assert value(metrics, "model_tokens_total", model=model, direction="input") == 7

    def test_what_a_provider_counts_below_zero_is_nothing(self, metrics: Metrics) -> None:
        commit(metrics, answer(), e.TurnEnded(1, "stop", 3, Usage(-5, 4, cost_usd=-1)))
        assert value(metrics, "model_tokens_total", model="demo/echo", direction="input") == 0
        assert value(metrics, "model_tokens_total", model="demo/echo", direction="output") == 4

    def test_too_many_models_are_other(self, metrics: Metrics) -> None:
        for number in range(MODELS_MAX + 3):
            commit(metrics, answer(f"m{number}"), e.TurnEnded(1, "stop", 3, USAGE))
        assert value(metrics, "model_cost_usd_total", model="other") == 0.75
        commit(metrics, answer("m0"), e.TurnEnded(1, "stop", 3, USAGE))
        assert value(metrics, "model_cost_usd_total", model="demo/m0") == 0.5


class TestTheRest:
    def test_group_commits(self, metrics: Metrics) -> None:
        metrics.batch(3, 0.5, failed=False)
        metrics.batch(5, 0.25, failed=True)
        assert value(metrics, "commit_rows_sum") == 8
        assert value(metrics, "commit_duration_seconds_sum") == 0.75
        assert value(metrics, "commit_failures_total") == 1

    def test_gauges_and_ownership(self, metrics: Metrics) -> None:
        metrics.refresh(
            sessions_loaded=1, runs=2, streams_open=3, writer_queue=4, sessions_followed=5
        )
        metrics.takeover()
        metrics.inbox_ask(0.5, "answered")
        metrics.lease_age(1.5)
        assert value(metrics, "sessions_loaded") == 1
        assert value(metrics, "runs_active") == 2
        assert value(metrics, "streams_open") == 3
        assert value(metrics, "writer_queue") == 4
        assert value(metrics, "sessions_followed") == 5
        assert value(metrics, "takeovers_total") == 1
        assert value(metrics, "inbox_ask_duration_seconds_sum", outcome="answered") == 0.5
        assert value(metrics, "lease_age_seconds") == 1.5


class Thing:
    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        response.media = {"name": name}

    def on_post(self, _request: falcon.Request, _response: falcon.Response, name: str) -> None:
        raise falcon.HTTPConflict


class TestRequests:
    @pytest.fixture
    def client(self, metrics: Metrics) -> TestClient:
        app = falcon.App(middleware=[RequestMetrics(metrics)])
        app.add_route("/things/{name}", Thing())
        return TestClient(app)

    def test_they_are_counted_by_the_template_of_their_route(
        self, metrics: Metrics, client: TestClient
    ) -> None:
        for name in ("one", "two"):
            client.simulate_get(f"/things/{name}")
        client.simulate_post("/things/one")
        route = "/things/{name}"
        counted = "http_requests_total"
        assert value(metrics, counted, method="GET", route=route, status="200") == 2
        assert value(metrics, counted, method="POST", route=route, status="409") == 1
        assert value(metrics, "http_request_duration_seconds_count", method="GET", route=route) == 2

    def test_a_stream_is_counted_before_its_first_byte(
        self, metrics: Metrics, client: TestClient
    ) -> None:
        counted = "http_request_duration_seconds_count"

        class Endless:
            def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
                response.stream = self.chunks()

            def chunks(self) -> Iterator[bytes]:
                yield b"%d" % value(metrics, counted, method="GET", route="/endless")

        client.app.add_route("/endless", Endless())
        assert client.simulate_get("/endless").text == "1"

    def test_clients_make_up_neither_routes_nor_methods(
        self, metrics: Metrics, client: TestClient
    ) -> None:
        for path in ("/a", "/b", "/things/x/y"):
            client.simulate_get(path)
        metrics.request("BREW", "/things/{name}", 400, 0.001)
        counted = "http_requests_total"
        assert value(metrics, counted, method="GET", route="none", status="404") == 3
        assert value(metrics, counted, method="other", route="/things/{name}", status="400") == 1


class TestTheRoute:
    @pytest.fixture
    def client(self, tmp_path: Path) -> Iterator[TestClient]:
        gateway = Gateway(load_settings(database_url=f"sqlite:///{tmp_path / 'sessiond.db'}"))
        try:
            yield TestClient(create_app(gateway))
        finally:
            gateway.stop(grace_s=0)

    def test_it_answers_without_gunicorn_too(self, client: TestClient) -> None:
        client.simulate_get("/sessions/nobody")
        answered = client.simulate_get("/metrics")
        assert answered.status_code == 200
        assert answered.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert (
            'sessiond_http_requests_total{method="GET",route="/sessions/{key}",status="404"}'
            in answered.text
        )


class TestDocumentation:
    def test_each_metric_is_documented_as_it_is(self) -> None:
        documented = {
            name: (kind, set(re.findall(r"`(\w+)`", labels)), means)
            for name, kind, labels, means in re.findall(
                r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$",
                (ROOT / "docs" / "metrics.md").read_text(),
                re.M,
            )
        }
        registered = {
            family.name + ("_total" if family.type == "counter" else ""): (
                family.type,
                {name for each in family.samples for name in each.labels} - {"le"},
                family.documentation,
            )
            for family in populated().registry.collect()
        }
        assert documented == registered

    def test_alerts_and_dashboard_ask_for_what_there_is(self) -> None:
        samples = {
            each.name for family in populated().registry.collect() for each in family.samples
        }
        families = {family.name for family in populated().registry.collect()}
        for path in (DASHBOARD, ROOT / "docs" / "metrics.md"):
            asked = set(re.findall(r"\bsessiond_\w+", path.read_text()))
            assert asked <= samples | families, path
        shown = set(re.findall(r"\bsessiond_\w+", DASHBOARD.read_text()))
        bare = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in shown}
        assert families == bare

    def test_the_dashboard_can_be_imported(self) -> None:
        dashboard = json.loads(DASHBOARD.read_text())
        panels = dashboard["panels"]
        assert dashboard["title"]
        assert dashboard["schemaVersion"] >= 30
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24
            assert not cells & taken, panel["title"]
            taken |= cells
            for target in panel.get("targets", ()):
                assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        variables = {each["name"] for each in dashboard["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text()))
        assert used - variables == {"__all", "__rate_interval"}
