"""The operator's page over plain HTTP: who gets in, what confines it, what it shows and does."""

import json
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import RunningGateway, stored_stream, until
from tests.acceptance.page import Browser, text_of

TOKEN = "page-admin-token"
RULES = [{"tool": "write", "action": "ask", "arguments": {"path": "*.txt"}}]
WRITE = '!write {"path": "a.txt", "content": "<b>hello</b>"}'
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PAGES = ("sessions", "approvals", "memory", "models", "usage", "checkpoints", "workers", "logs")
ADMIN_PAGES = ("workers", "logs", "config", "tokens")


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(
        token=TOKEN, tools="all", tool_rules=json.dumps(RULES), trusted_proxies="127.0.0.1"
    ) as opened:
        for key in ("team-a:1", "team-b:1"):
            opened.request("POST", f"/sessions/{key}/messages", b'{"text": "hi"}', headers=BEARER)
        yield opened


@pytest.fixture(scope="module")
def open_one(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(ui_secret="shared-by-all-of-them") as opened:
        yield opened


@pytest.fixture(scope="module")
def admin(gateway: RunningGateway) -> Browser:
    browser = Browser(gateway)
    assert browser.sign_in(TOKEN).status == 303
    return browser


def issued(gateway: RunningGateway, name: str, *scopes: str, prefix: str = "") -> str:
    body = json.dumps({"name": name, "scopes": scopes, "keyPrefix": prefix}).encode()
    token: str = gateway.request("POST", "/tokens", body, headers=BEARER).body["token"]
    return token


def signed_in(gateway: RunningGateway, name: str, *scopes: str, prefix: str = "") -> Browser:
    browser = Browser(gateway)
    assert browser.sign_in(issued(gateway, name, *scopes, prefix=prefix)).status == 303
    return browser


def test_a_browser_without_a_cookie_is_asked_for_its_token(gateway: RunningGateway) -> None:
    browser = Browser(gateway)
    answer = browser.get("/ui/memory")
    assert (answer.status, answer.headers["Location"]) == (303, "/ui/login?next=/memory")
    part = browser.get("/ui/memory", **{"HX-Request": "true"})
    assert (part.status, part.headers["HX-Redirect"]) == (401, "/ui/login")


def test_the_root_sends_browsers_to_the_page_and_nobody_else(gateway: RunningGateway) -> None:
    answer = gateway.get("/", Accept="text/html,application/xhtml+xml")
    assert (answer.status, answer.headers["Location"]) == (303, "/ui")
    assert gateway.get("/", **BEARER).status == 404


def test_who_is_asked_for_a_token_comes_to_the_page_they_wanted(gateway: RunningGateway) -> None:
    browser = Browser(gateway)
    login = browser.get("/ui/memory?q=what%26ever&session=a").headers["Location"]
    wanted = parse_qs(urlsplit(login).query)["next"][0]
    assert wanted == "/memory?q=what%26ever&session=a"


def test_a_good_token_gives_a_cookie_that_scripts_and_other_sites_never_get(
    gateway: RunningGateway,
) -> None:
    browser = Browser(gateway)
    answer = browser.sign_in(TOKEN)
    cookie = SimpleCookie(answer.headers["Set-Cookie"])["sessiond_ui"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/ui")
    assert not cookie["secure"]
    assert TOKEN not in cookie.value
    assert browser.get("/ui/sessions").status == 200


def test_behind_https_the_cookie_is_sent_by_https_only(gateway: RunningGateway) -> None:
    answer = Browser(gateway, **{"X-Forwarded-Proto": "https"}).sign_in(TOKEN)
    assert SimpleCookie(answer.headers["Set-Cookie"])["sessiond_ui"]["secure"]


def test_a_wrong_token_gives_nothing(gateway: RunningGateway) -> None:
    browser = Browser(gateway)
    answer = browser.sign_in("wrong")
    assert answer.status == 403
    assert "not good" in text_of(answer)
    assert "sessiond_ui" not in browser.cookies
    assert browser.get("/ui/sessions").status == 303


def test_a_cookie_that_was_tampered_with_is_none(gateway: RunningGateway) -> None:
    browser = Browser(gateway)
    browser.sign_in(TOKEN)
    whole = browser.cookies["sessiond_ui"]
    for damaged in (whole[:-1], whole[:20] + "AAAA" + whole[24:], "x", "", "%", "é"):
        browser.cookies["sessiond_ui"] = damaged
        assert browser.get("/ui/sessions").status == 303


def test_signing_out_takes_the_cookie_back(gateway: RunningGateway) -> None:
    browser = Browser(gateway)
    browser.sign_in(TOKEN)
    browser.get("/ui/sessions")
    assert browser.post("/ui/logout").headers["Location"] == "/ui/login"
    assert browser.get("/ui/sessions").status == 303


def test_after_signing_in_nobody_is_led_elsewhere(gateway: RunningGateway) -> None:
    browser = Browser(gateway)
    for target, where in (
        ("/memory?q=x", "/ui/memory?q=x"),
        ("//evil.example", "/ui/evil.example"),
        ("https://evil.example", "/ui/https://evil.example"),
        ("/\\evil.example", "/ui/sessions"),
        ("", "/ui/sessions"),
    ):
        browser.get("/ui/login")
        answer = browser.post("/ui/login", token=TOKEN, next=target)
        assert answer.headers["Location"] == where


def test_a_revoked_token_is_out_at_once(gateway: RunningGateway, admin: Browser) -> None:
    browser = signed_in(gateway, "short-lived", "read")
    assert browser.get("/ui/sessions").status == 200
    listed = admin.text("/ui/tokens")
    found = re.search(r"/ui/tokens/([0-9a-f]+)/revoke[^>]*short-lived", listed)
    assert found is not None
    answer = admin.post(f"/ui/tokens/{found[1]}/revoke")
    assert answer.headers["Location"] == "/ui/tokens?done=revoked"
    until(lambda: browser.get("/ui/sessions").status == 303, "the cookie is good for nothing")


@pytest.mark.parametrize("csrf", ["", "wrong"])
def test_a_form_of_another_site_changes_nothing(
    gateway: RunningGateway, admin: Browser, csrf: str
) -> None:
    admin.get("/ui/config")
    answer = admin.post("/ui/config", csrf=csrf, path="session.maxQueuePerSession", value=3)
    assert answer.status == 403
    assert "load the page again" in text_of(answer)
    login = Browser(gateway)
    login.get("/ui/login")
    assert login.post("/ui/login", csrf=csrf, token=TOKEN).status == 403


def test_the_csrf_token_of_one_visitor_is_of_no_use_to_another(
    gateway: RunningGateway, admin: Browser
) -> None:
    other = Browser(gateway)
    other.sign_in(TOKEN)
    other.get("/ui/sessions")
    assert admin.post("/ui/checkpoints", csrf=other.csrf).status == 403


def test_the_api_takes_no_cookie_and_the_page_no_header(
    gateway: RunningGateway, admin: Browser
) -> None:
    cookie = f"sessiond_ui={admin.cookies['sessiond_ui']}"
    assert gateway.get("/sessions", Cookie=cookie).status == 401
    assert gateway.get("/ui/sessions", **BEARER).status == 303


@pytest.mark.parametrize("path", ["/ui/sessions", "/ui/login", "/ui/no-such-page"])
def test_every_page_is_confined_and_kept_by_no_cache(admin: Browser, path: str) -> None:
    headers = admin.get(path).headers
    policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


def test_no_page_has_a_script_or_a_style_inside(admin: Browser) -> None:
    for path in (*PAGES, *ADMIN_PAGES):
        page = admin.text(f"/ui/{path}")
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)


def test_static_files_are_there_for_good_and_no_others(gateway: RunningGateway) -> None:
    browser = Browser(gateway)
    page = text_of(browser.get("/ui/login"))
    for path in re.findall(r'(?:href|src)="(/ui/static/[^"]+)"', page):
        answer = browser.get(path)
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]
    assert browser.get("/ui/static/htmx.LICENSE.txt").status == 200
    for path in ("..%2ftemplates", "base.html", "..", "nix.js"):
        assert browser.get(f"/ui/static/{path}").status == 404


@pytest.mark.parametrize("prefix", ["/tools/agents", "/x"])
def test_behind_a_prefix_every_link_begins_with_it(gateway: RunningGateway, prefix: str) -> None:
    browser = Browser(gateway, **{"X-Forwarded-Prefix": prefix})
    answer = browser.sign_in(TOKEN)
    assert answer.headers["Location"] == f"{prefix}/ui/sessions"
    assert SimpleCookie(answer.headers["Set-Cookie"])["sessiond_ui"]["path"] == f"{prefix}/ui"
    for path in PAGES:
        page = browser.text(f"/ui/{path}")
        links = re.findall(r'(?:href|src|action|hx-get|hx-post)="([^"]*)"', page)
        assert len(links) > 10
        assert all(each.startswith((f"{prefix}/ui", "#")) for each in links), links


def test_a_server_that_mounts_the_gateway_has_its_prefix_in_the_links(
    gateway: RunningGateway,
) -> None:
    browser = Browser(gateway, SCRIPT_NAME="/mounted")
    answer = browser.get("/mounted/ui/memory")
    assert answer.headers["Location"] == "/mounted/ui/login?next=/memory"
    page = text_of(browser.get("/mounted/ui/login"))
    assert 'action="/mounted/ui/login"' in page


def test_a_prefix_that_could_lead_elsewhere_is_ignored(gateway: RunningGateway) -> None:
    for prefix in ("//evil.example", "/a b", "https://evil.example", '/"><script>'):
        page = text_of(Browser(gateway, **{"X-Forwarded-Prefix": prefix}).get("/ui/login"))
        assert 'action="/ui/login"' in page


def test_a_token_that_only_reads_sees_no_control_and_changes_nothing(
    gateway: RunningGateway,
) -> None:
    browser = signed_in(gateway, "reader", "read")
    for path in ("sessions", "approvals", "memory", "models", "usage"):
        page = browser.text(f"/ui/{path}")
        assert re.findall(r'<form[^>]* method="post"[^>]*action="([^"]*)"', page) == ["/ui/logout"]
        assert "/ui/tokens" not in page
        assert "/ui/config" not in page
    for path in ADMIN_PAGES:
        assert browser.get(f"/ui/{path}").status == 403
    browser.get("/ui/sessions")
    for path, fields in (
        ("sessions", {"key": "team-a:1", "text": "x"}),
        ("memory", {"content": "x"}),
        ("memory/forget", {"memory_id": 1}),
        ("approvals/team-a:1/x", {"answer": "approve"}),
        ("config", {"path": "audit.reads", "value": "true"}),
        ("tokens", {"name": "x", "scopes": "admin"}),
        ("checkpoints", {}),
    ):
        assert browser.post(f"/ui/{path}", **fields).status == 403, path


def test_a_token_of_some_sessions_sees_nothing_of_the_others(gateway: RunningGateway) -> None:
    browser = signed_in(gateway, "team-a", "admin", prefix="team-a:")
    page = browser.text("/ui/sessions?prefix=t")
    assert "team-a:1" in page
    assert "team-b:1" not in page
    assert "team-b:1" not in browser.text("/ui/sessions?q=team-b")
    assert browser.post("/ui/sessions", key="team-b:1", text="x").status == 403
    assert browser.post("/ui/approvals/team-b:1/x", answer="approve").status == 404
    assert browser.get("/ui/memory?session=team-b:1").status == 404
    assert browser.post("/ui/memory", session="", content="x").status == 404
    assert "Name a session" in browser.text("/ui/memory")
    for path in (*ADMIN_PAGES, "usage"):
        assert browser.get(f"/ui/{path}").status == 403
    browser.get("/ui/sessions")
    assert browser.post("/ui/checkpoints").status == 403


def test_a_prompt_of_the_list_makes_its_session(gateway: RunningGateway, admin: Browser) -> None:
    admin.get("/ui/sessions")
    answer = admin.post("/ui/sessions", key="made:here", text="hello there")
    assert (answer.status, answer.headers["Location"]) == (303, "/ui/sessions/made:here")
    until(lambda: "hello there" in admin.text("/ui/sessions?prefix=made:"), "it is listed")
    assert admin.post("/ui/sessions", key="bad key", text="x").status == 400
    assert admin.post("/ui/sessions", key="made:here", text=" ").status == 422


def test_the_list_is_searched_filtered_and_turned_over(
    gateway: RunningGateway, admin: Browser
) -> None:
    for number in range(55):
        body = json.dumps({"text": f"number {number}"}).encode()
        gateway.request("POST", f"/sessions/many:{number}/enqueue", body, headers=BEARER)
    first = admin.text("/ui/sessions?prefix=many:&order=age")
    further = re.search(r'href="/ui/(sessions\?[^"]*before=[^"]*)"', first)
    assert further is not None
    second = admin.text(f"/ui/{further[1].replace('&amp;', '&')}")
    keys = [re.findall(r'href="/ui/sessions/(many:\d+)"', page) for page in (first, second)]
    assert keys == [
        [f"many:{number}" for number in range(54, 4, -1)],
        [f"many:{number}" for number in range(4, -1, -1)],
    ]
    until(lambda: "many:0" in admin.text("/ui/sessions?q=NUMBER+0&work=idle"), "it is found")
    assert "many:1<" not in admin.text("/ui/sessions?q=number+0")
    assert "No session fits" in admin.text("/ui/sessions?q=nowhere")
    body = b'{"text": "late"}'
    gateway.request("POST", "/sessions/many:1/messages", body, headers=BEARER)
    lately = admin.text("/ui/sessions?prefix=many:")
    keys = re.findall(r'href="/ui/sessions/(many:\d+)"', lately)
    assert (keys[0], len(set(keys)), len(keys)) == ("many:1", 50, 50)
    assert 'href="/ui/sessions?prefix=many%3A&amp;order=age"' in lately
    part = text_of(admin.get("/ui/sessions?prefix=many:1", **{"HX-Request": "true"}))
    assert part.startswith('<div id="sessions"')
    assert "<html" not in part


def test_a_call_that_waits_is_shown_and_approved(gateway: RunningGateway, admin: Browser) -> None:
    admin.get("/ui/sessions")
    admin.post("/ui/sessions", key="asks:1", text=WRITE)
    until(lambda: "asks:1" in admin.text("/ui/approvals"), "the call waits")
    page = admin.text("/ui/approvals")
    assert "<b>hello</b>" not in page
    assert "&lt;b&gt;hello" in page
    action = re.search(r'action="/ui/(approvals/asks:1/[^"]+)"', page)
    assert action is not None
    assert admin.post(f"/ui/{action[1]}", answer="perhaps").status == 422
    answer = admin.post(f"/ui/{action[1]}", answer="approve")
    assert answer.headers["Location"] == "/ui/approvals?done=approved"
    assert admin.post(f"/ui/{action[1]}", answer="approve").status in (404, 409)
    assert "Nothing waits" in admin.text("/ui/approvals")


def test_memories_are_added_found_and_forgotten(admin: Browser) -> None:
    admin.get("/ui/memory")
    answer = admin.post("/ui/memory", content="The <i>window</i> is Tuesday", key="window")
    assert answer.headers["Location"] == "/ui/memory?session=&done=remembered"
    page = admin.text("/ui/memory?q=tuesday")
    assert "The &lt;i&gt;window&lt;/i&gt; is Tuesday" in page
    found = re.search(r'name="memory_id" value="(\d+)"', page)
    assert found is not None
    answer = admin.post("/ui/memory/forget", memory_id=found[1])
    assert answer.headers["Location"] == "/ui/memory?session=&done=forgotten"
    assert 'name="memory_id"' not in admin.text("/ui/memory?q=tuesday")


def test_a_setting_is_changed_for_all_and_put_back(gateway: RunningGateway, admin: Browser) -> None:
    admin.get("/ui/config")
    path = "session.maxQueuePerSession"
    assert admin.post("/ui/config", path=path, value=3).headers["Location"].endswith("=changed")

    def shown() -> Any:
        return gateway.get("/config", **BEARER).body["gateway"]["session"]["maxQueuePerSession"]

    assert shown() == 3
    assert "As configured" in admin.text("/ui/config")
    assert admin.post("/ui/config", path=path, value="many").status == 422
    assert admin.post("/ui/config", path="port", value=1).status == 422
    admin.post("/ui/config", path=path, value="")
    assert shown() == 8


def test_a_token_is_issued_and_shown_once(gateway: RunningGateway, admin: Browser) -> None:
    admin.get("/ui/tokens")
    page = text_of(admin.post("/ui/tokens", name="by-page", scopes=["read", "prompt"]))
    found = re.search(r"sd-[0-9a-f]+-[\w-]+", page)
    assert found is not None
    assert gateway.get("/sessions", Authorization=f"Bearer {found[0]}").status == 200
    assert found[0] not in admin.text("/ui/tokens")
    assert admin.post("/ui/tokens", name="by-page", scopes=["read"]).status == 409
    assert admin.post("/ui/tokens", name="none").status == 422


def test_what_the_page_does_is_in_the_log_as_its_token_did_it(
    gateway: RunningGateway, admin: Browser
) -> None:
    browser = signed_in(gateway, "operator", "read", "prompt")
    browser.get("/ui/sessions")
    browser.post("/ui/sessions", key="logged:1", text="hi")
    first = stored_stream(gateway.folder, "session:logged:1")[0]
    assert first.principal == "token:operator"


def test_checkpoints_are_signed_and_the_other_pages_show_what_there_is(admin: Browser) -> None:
    admin.get("/ui/checkpoints")
    admin.post("/ui/checkpoints")
    assert "sessiond/" in admin.text("/ui/checkpoints")
    assert "demo" in admin.text("/ui/models")
    assert "this one" in admin.text("/ui/workers")
    assert "queued source=chat" in admin.text("/ui/logs")
    assert "Runs: " in admin.text("/ui/usage")
    assert "by the half hour" in admin.text("/ui/usage?span=day")


def test_usage_adds_up_what_the_log_says(gateway: RunningGateway, admin: Browser) -> None:
    def prompts() -> int:
        found = re.search(r"<dt>Prompts</dt><dd>(\d+)</dd>", admin.text("/ui/usage"))
        assert found is not None
        return int(found[1])

    before = prompts()
    body = b'{"text": "one more"}'
    gateway.request("POST", "/sessions/usage:1/messages", body, headers=BEARER)
    until(lambda: prompts() == before + 1, "the prompt is counted")


def test_problems_are_pages_and_to_htmx_text(admin: Browser) -> None:
    answer = admin.get("/ui/no-such-page")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    part = admin.get("/ui/no-such-page", **{"HX-Request": "true"})
    assert (part.status, part.body) == (404, b"Not found")
    answer = admin.get("/ui/memory?session=%3Cscript%3E")
    assert answer.status == 400
    assert "<script>" not in text_of(answer)


def test_without_tokens_nobody_signs_in_and_forms_are_checked_still(
    open_one: RunningGateway,
) -> None:
    browser = Browser(open_one)
    assert browser.get("/ui/login").headers["Location"] == "/ui/sessions"
    assert "Sign out" not in browser.text("/ui/sessions")
    assert browser.post("/ui/sessions", csrf="", key="a:1", text="x").status == 403
    assert browser.post("/ui/sessions", key="a:1", text="x").status == 303
    assert "everybody on this machine" in browser.text("/ui/tokens")


def test_without_tokens_a_foreign_name_for_this_machine_is_refused(
    open_one: RunningGateway,
) -> None:
    answer = Browser(open_one, Host="rebound.example").get("/ui/sessions")
    assert answer.status == 403
    assert "SESSIOND_TOKEN" in text_of(answer)
    assert Browser(open_one, Host="localhost:1").get("/ui/sessions").status == 200
