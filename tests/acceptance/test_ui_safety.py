"""The operator's page against who means harm: other sites, other visitors, small tokens."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Answer, RunningGateway, until
from tests.acceptance.page import FORM, Browser, text_of
from web.operations import methods_of, operation_of
from web.resources.exports import ExportResource
from web.ui.cookies import Seal
from web.ui.guesses import GUESSES_MAX
from web.ui.routes import UI_ROUTES

TOKEN = "page-admin-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CONFIGURED = "https://chat.example"
RULES = [{"tool": "write", "action": "ask"}]
WRITE = '!write {"path": "a.txt", "content": "hello"}'
FORMS: dict[str, dict[str, Any]] = {
    "/ui/login": {"token": TOKEN},
    "/ui/logout": {},
    "/ui/sessions": {"key": "team-a:1", "text": "no"},
    "/ui/approvals/{key}/{approval_id}": {"answer": "approve"},
    "/ui/memory": {"content": "no"},
    "/ui/memory/forget": {"memory_id": 1},
    "/ui/checkpoints": {},
    "/ui/config": {"path": "session.maxQueuePerSession", "value": 3},
    "/ui/tokens": {"name": "no", "scopes": "admin"},
    "/ui/tokens/{token_id}/revoke": {},
    "/ui/sessions/{key}/prompt": {"text": "no"},
    "/ui/sessions/{key}/abort": {},
    "/ui/sessions/{key}/approvals/{approval_id}": {"approved": "yes"},
    "/ui/sessions/{key}/fork": {"into": "team-a:2", "at": 1},
    "/ui/sessions/{key}/rerun": {"run": "x", "model": "demo/echo"},
    "/ui/sessions/{key}/hold": {"reason": "no"},
    "/ui/sessions/{key}/release": {},
    "/ui/sessions/{key}/erase": {"reason": "no", "confirm": "team-a:1"},
}
"""What changes something, each with a form that would do it."""

PAGES = {
    "sessions": "read",
    "approvals": "read",
    "memory": "read",
    "models": "read",
    "usage": "read",
    "sessions/team-a:1": "read",
    "sessions/team-a:1/compare": "read",
    "sessions/team-a:1/events/1": "audit",
    "sessions/team-a:1/proof": "audit",
    "sessions/team-a:1/export": "audit",
    "checkpoints": "audit",
    "workers": "admin",
    "logs": "admin",
    "config": "admin",
    "tokens": "admin",
}


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(
        token=TOKEN,
        tools="all",
        tool_rules=json.dumps(RULES),
        trusted_proxies="127.0.0.1",
        cors_origins=CONFIGURED,
        heartbeat_s=1,
    ) as opened:
        for key in ("team-a:1", "team-b:1"):
            opened.post(f"/sessions/{key}/messages", {"text": "hi"}, **BEARER)
        yield opened


@pytest.fixture(scope="module")
def admin(gateway: RunningGateway) -> Browser:
    browser = Browser(gateway)
    assert browser.sign_in(TOKEN).status == 303
    browser.get("/ui/sessions")
    return browser


def signed_in(gateway: RunningGateway, name: str, *scopes: str, prefix: str = "") -> Browser:
    wanted = {"name": name, "scopes": scopes, "keyPrefix": prefix}
    browser = Browser(gateway)
    token = gateway.post("/tokens", wanted, **BEARER).body["token"]
    assert browser.sign_in(token).status == 303
    browser.get("/ui/sessions")
    return browser


def posts() -> list[str]:
    return [path for path, resource in UI_ROUTES if "POST" in methods_of(resource)]


def where(path: str) -> str:
    return path.format(key="team-a:1", approval_id="x", token_id="x")


def events(gateway: RunningGateway) -> int:
    count = 0
    for key in ("team-a:1", "team-b:1"):
        count += gateway.get(f"/sessions/{key}/state?limit=1", **BEARER).body["seq"]
    return count


def cookie_of(browser: Browser) -> str:
    return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


def test_whatever_changes_something_needs_its_visitors_csrf_token(
    gateway: RunningGateway, admin: Browser
) -> None:
    assert set(posts()) == set(FORMS)
    other = Browser(gateway)
    other.sign_in(TOKEN)
    other.get("/ui/sessions")
    before = events(gateway)
    for path, fields in FORMS.items():
        for csrf in ("", "wrong", other.csrf):
            assert admin.post(where(path), csrf=csrf, **fields).status == 403, (path, csrf)
        refused = gateway.request(
            "POST", f"{where(path)}?csrf={admin.csrf}", headers={"Cookie": cookie_of(admin)}
        )
        assert refused.status in (403, 415, 422), path
    assert events(gateway) == before
    assert admin.get("/ui/sessions").status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_of_another_site_is_refused_even_with_its_csrf_token(
    gateway: RunningGateway, site: str
) -> None:
    browser = Browser(gateway, **{"Sec-Fetch-Site": site})
    assert browser.get("/ui/login").status == 200
    assert browser.post("/ui/login", token=TOKEN).status == 403
    own = Browser(gateway, **{"Sec-Fetch-Site": "same-origin"})
    assert own.sign_in(TOKEN).status == 303


def test_no_page_of_the_gateway_answers_what_another_resource_would() -> None:
    for path, resource in UI_ROUTES:
        for method in methods_of(resource):
            responder = getattr(resource, f"on_{method.lower()}")
            is_own = responder.__module__.startswith("web.ui.")
            assert is_own or resource is ExportResource, (method, path)
            described = operation_of(resource, method)
            assert described is not None
            assert method == "GET" or described.form is not None, (method, path)


def test_an_origin_that_may_call_the_api_reads_nothing_of_the_page(
    gateway: RunningGateway, admin: Browser
) -> None:
    asked = {"Origin": CONFIGURED, "Cookie": cookie_of(admin)}
    page = gateway.get("/ui/sessions", **asked)
    assert page.status == 200
    assert not [name for name in page.headers if name.lower().startswith("access-control-")]
    preflight = {"Origin": CONFIGURED, "Access-Control-Request-Method": "POST"}
    answer = gateway.request("OPTIONS", "/ui/tokens", headers=preflight)
    assert answer.status >= 300
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert gateway.get("/sessions", Origin=CONFIGURED, **BEARER).headers[
        "Access-Control-Allow-Origin"
    ]


@pytest.mark.parametrize(
    "target",
    ["/../../other", "/%2e%2e/%2E./other", "/sessions/.%2e/../other", "/..", "/./../other"],
)
def test_after_signing_in_nobody_is_led_out_of_the_page(
    gateway: RunningGateway, target: str
) -> None:
    browser = Browser(gateway, **{"X-Forwarded-Prefix": "/agents"})
    browser.get("/ui/login")
    answer = browser.post("/ui/login", token=TOKEN, next=target)
    assert answer.headers["Location"] == "/agents/ui/sessions"


def test_who_signs_in_again_gets_another_cookie_and_csrf_token(gateway: RunningGateway) -> None:
    browser = Browser(gateway)
    browser.get("/ui/login")
    planted = dict(browser.cookies), browser.csrf
    browser.post("/ui/login", token=TOKEN)
    first = browser.cookies["sessiond_ui"]
    browser.get("/ui/sessions")
    assert browser.csrf != planted[1]
    browser.sign_in(TOKEN)
    assert browser.cookies["sessiond_ui"] != first
    browser.cookies = planted[0] | {"sessiond_ui": planted[0]["sessiond_visitor"]}
    assert browser.get("/ui/sessions").status == 303


def test_who_offers_many_wrong_tokens_has_to_wait(gateway: RunningGateway, admin: Browser) -> None:
    browser = Browser(gateway, **{"X-Forwarded-For": "192.0.2.7"})
    browser.get("/ui/login")
    answers = [browser.post("/ui/login", token=f"guess-{n}") for n in range(GUESSES_MAX + 1)]
    assert [each.status for each in answers] == [403] * GUESSES_MAX + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert browser.post("/ui/login", token=TOKEN).status == 429
    assert Browser(gateway, **{"X-Forwarded-For": "192.0.2.8"}).sign_in(TOKEN).status == 303
    assert "a wrong token from 192.0.2.7" in admin.text("/ui/logs")


@pytest.mark.parametrize("scope", ["read", "prompt", "audit", "admin"])
def test_each_scope_opens_its_own_pages_and_anybody_can_sign_out(
    gateway: RunningGateway, scope: str
) -> None:
    browser = signed_in(gateway, f"only-{scope}", scope)
    shown = text_of(browser.get("/ui/sessions"))
    for path, needed in PAGES.items():
        answer = browser.get(f"/ui/{path}")
        allowed = scope in (needed, "admin")
        assert answer.status == (200 if allowed else 403), path
        if "/" not in path:
            assert (f'href="/ui/{path}"' in shown) is (allowed or path == "sessions"), path
    browser.get("/ui/sessions")
    assert browser.post("/ui/logout").headers["Location"] == "/ui/login"
    assert "sessiond_ui" not in browser.cookies


def test_a_token_of_some_sessions_is_shown_nothing_of_any_other(gateway: RunningGateway) -> None:
    gateway.post("/sessions/team-b:1/enqueue", {"text": f"hidden words\n{WRITE}"}, **BEARER)
    admin = signed_in(gateway, "sees-all", "admin")
    until(lambda: "team-b:1" in admin.text("/ui/approvals"), "the call waits")
    bound = signed_in(gateway, "team-a-only", "admin", prefix="team-a:")
    for path in (
        "approvals",
        "sessions",
        "sessions?q=hidden",
        "sessions?prefix=team-b:",
        "checkpoints",
        "models",
        "memory?session=team-a:1&q=hidden",
        "sessions/team-a:1/compare?other=team-b:1",
    ):
        page = bound.text(f"/ui/{path}")
        assert "hidden words" not in page, path
        assert 'href="/ui/sessions/team-b' not in page, path
    for part in ("", "/at/now", "/timeline", "/live", "/compare", "/proof", "/export", "/events/1"):
        assert bound.get(f"/ui/sessions/team-b:1{part}").status == 404, part
    bound.get("/ui/sessions")
    for path, fields in FORMS.items():
        if "{key}" in path:
            hidden = path.format(key="team-b:1", approval_id="x")
            assert bound.post(hidden, **fields).status == 404, path


def live(gateway: RunningGateway, cookie: str) -> Iterator[bytes]:
    path = "/ui/sessions/team-a:1/live?after=0"
    with gateway.stream(path, headers={"Cookie": cookie}) as stream:
        assert stream.status == 200
        yield from stream.lines()


def test_a_revoked_token_ends_the_pages_live_stream(gateway: RunningGateway) -> None:
    browser = signed_in(gateway, "watcher", "read")
    lines = live(gateway, cookie_of(browser))
    next(lines)
    admin = Browser(gateway)
    admin.sign_in(TOKEN)
    found = re.search(r"/ui/tokens/([0-9a-f]+)/revoke[^>]*watcher", admin.text("/ui/tokens"))
    assert found is not None
    assert admin.post(f"/ui/tokens/{found[1]}/revoke").status == 303
    assert list(lines) is not None  # it ends, where else its deadline would pass
    assert browser.get("/ui/sessions").status == 303


def test_a_cookie_whose_time_is_over_ends_its_live_stream(gateway: RunningGateway) -> None:
    lasts_ms = 1_500
    until_ms = time.time_ns() // 1_000_000 + lasts_ms
    cookie, _ = Seal(TOKEN.encode()).sealed(TOKEN, until_ms)
    lines = live(gateway, f"sessiond_ui={cookie}")
    next(lines)
    assert list(lines) is not None
    answer: Answer = gateway.get("/ui/sessions", Cookie=f"sessiond_ui={cookie}")
    assert answer.status == 303


def test_only_forms_are_read_as_forms(gateway: RunningGateway, admin: Browser) -> None:
    cookie = {"Cookie": cookie_of(admin)}
    body = json.dumps({"csrf": admin.csrf}).encode()
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
        answer = gateway.request(
            "POST", "/ui/checkpoints", body, headers=cookie | {"Content-Type": kind}
        )
        assert answer.status == 415, kind
    sent = cookie | {"Content-Type": FORM}
    many = "&".join(f"field{n}=1" for n in range(300)).encode()
    assert gateway.request("POST", "/ui/checkpoints", many, headers=sent).status == 400
    large = b"text=" + b"x" * 1_100_000
    assert gateway.request("POST", "/ui/checkpoints", large, headers=sent).status == 413
