"""One session's page over plain HTTP: what it shows, what happens there, what can be done."""

import json
import re
import time
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from actors.audit.exporting.readable import shown
from actors.replay import CODEC, entry_of, snapshot_of, stream_of
from actors.session import events as e
from actors.session.evolve import evolve
from actors.session.messages import AssistantMessage, Text, UserMessage
from actors.session.state import SessionState
from actors.session_actor import SNAPSHOT_EVERY_EVENTS
from persistence.engine import parse_url, read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.records import Append, Claim, Head, NewEvent
from tests.acceptance.gateway import (
    Answer,
    ExecutedGateway,
    Frame,
    RunningGateway,
    database_url,
    run_command,
    stored_events,
    until,
    words,
)
from tests.acceptance.page import Browser
from tests.sqlite import make_database
from web.ui.markdown import rendered

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "large-session.jsonl"
TOKEN = "operator-0123456789abcdef"
RULES = [{"tool": "write", "action": "ask", "arguments": {"path": "*.txt"}}]
WRITE = '!write {"path": "a.txt", "content": "hello"}'
SEQS = (4, 7, 60, 211, 348, 500, 777, 1_000, 1_021)
WINDOW = 50
KNOWN = "known"
LONG = "long"
EVENTS = 100_000
TIMES_AS_LONG_MOST = 100
"""As a session of a few events takes; to read all events, or show all messages, takes thousands."""
OPENED_BYTES_MOST = 200_000
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def write_long_session(folder: Path) -> None:
    """Write a session of EVENTS events, with snapshots as its actor would have made them."""
    url = parse_url(database_url(folder))
    log = SqlEventLog(write_engine(url), read_engine(url))
    state = SessionState(LONG)
    head = claimed(log)
    for first in range(0, EVENTS, SNAPSHOT_EVERY_EVENTS):
        written: list[NewEvent] = []
        for number in range(first, first + SNAPSHOT_EVERY_EVENTS):
            event = long_event(number)
            state = evolve(state, event)
            written.append(NewEvent(event.wire_name, event.schema_version, CODEC.encode(event)))
        append = Append(head, tuple(written), entry_of(state), snapshot_of(state))
        (appended,) = log.write([append])
        assert isinstance(appended, Head)
        head = appended
    log.close()


def claimed(log: SqlEventLog) -> Head:
    (head,) = log.write([Claim(stream_of(LONG), "nobody")])
    assert isinstance(head, Head)
    return head


def long_event(number: int) -> e.Event:
    if number == 0:
        return e.SessionCreated(session_id="long-id", at=1)
    content = (Text(f"message {number} of a *long* conversation"),)
    if number % 2:
        return e.MessageCompleted(message=UserMessage(content, number))
    return e.MessageCompleted(message=AssistantMessage(content, number))


class Visitor(Browser):
    """Somebody who is signed in on the page and has looked at a session they know."""

    def __init__(self, gateway: RunningGateway, token: str = TOKEN, known: str = KNOWN) -> None:
        super().__init__(gateway)
        answer = self.sign_in(token)
        assert answer.status == 303, answer.body
        self.get(page(known))

    def live(self, key: str, after: int, **headers: str) -> Iterator[Frame]:
        """Yield a session's live frames; close the generator when done."""
        cookies = "; ".join([f"{name}={value}" for name, value in self.cookies.items()])
        path = f"{page(key)}/live?after={after}"
        with self._gateway.stream(path, headers={"Cookie": cookies} | headers) as stream:
            assert stream.status == 200
            yield from stream.frames()

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        answer = super()._request(method, path, body, headers)
        kept = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        return answer._replace(body=kept.decode())


class Messages(HTMLParser):
    """Finds the messages in a fragment: their ids, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.earlier: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "article" and found.get("data-message"):
            self.ids.append(found["data-message"] or "")
        if found.get("data-earlier"):
            self.earlier = found["data-earlier"]


def page(key: str) -> str:
    return f"/ui/sessions/{quote(key, safe='')}"


def api(gateway: RunningGateway, path: str) -> Any:
    answer = gateway.get(path, **BEARER)
    assert answer.status == 200, answer.body
    return answer.body


def prompt(gateway: RunningGateway, key: str, text: str) -> Answer:
    return gateway.post(f"/sessions/{quote(key)}/messages", {"text": text}, **BEARER)


def idle(gateway: RunningGateway, key: str) -> None:
    def is_idle() -> bool:
        return not api(gateway, f"/sessions/{quote(key)}")["session"]["processing"]

    until(is_idle, f"{key} is idle")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Start a gateway that has the recorded session, where there is one."""
    folder = tmp_path_factory.mktemp("page")
    make_database(folder / "sessiond.db")
    write_long_session(folder)
    if FIXTURE.exists():
        done = run_command(folder, "import-pi", str(FIXTURE), "--session", "recorded")
        assert done.returncode == 0, done.stderr
    settings: dict[str, object] = {"token": TOKEN, "tools": "all", "tool_rules": json.dumps(RULES)}
    with ExecutedGateway(folder, None, **settings) as running:
        prompt(running, KNOWN, "hello")
        yield running


@pytest.fixture(scope="module")
def visitor(gateway: RunningGateway) -> Visitor:
    return Visitor(gateway)


@pytest.fixture(scope="module")
def recorded() -> str:
    if not FIXTURE.exists():
        pytest.skip(f"the recorded session {FIXTURE} is not there")
    return "recorded"


def test_the_page_shows_what_the_state_says_at_any_event(
    gateway: RunningGateway, visitor: Visitor, recorded: str
) -> None:
    for seq in SEQS:
        state = api(gateway, f"/sessions/{recorded}/state?at={seq}&limit={WINDOW}")
        html = visitor.get(f"{page(recorded)}/at/{seq}").body
        assert Messages(html).ids == [each["id"] for each in state["messages"]], seq
        assert state["digest"] in html
        for message in state["messages"]:
            for part in message["parts"]:
                assert _is_shown(part, html), (seq, part)


def _is_shown(part: dict[str, Any], html: str) -> bool:
    """Tell whether a part of a message is on the page, whole where it is not very long."""
    if part["type"] == "text":
        return str(rendered(shown(part["text"]))) in html
    if part["type"] == "file":
        return part["url"] in html
    text = part["text"] if part["type"] == "reasoning" else part.get("text", "")
    return shown(text)[:20_000] in unescape(html)


def test_earlier_messages_are_the_window_before(
    gateway: RunningGateway, visitor: Visitor, recorded: str
) -> None:
    newest = Messages(visitor.get(page(recorded)).body)
    assert newest.earlier is not None
    earlier = Messages(visitor.get(unescape(newest.earlier)).body)
    before = newest.ids[0]
    history = api(gateway, f"/sessions/{recorded}/history?before={before}&limit={WINDOW}")
    assert earlier.ids == [each["id"] for each in history["messages"]]
    assert earlier.earlier is not None


def test_a_session_does_not_open_more_slowly_in_proportion_to_its_events(
    visitor: Visitor,
) -> None:
    def took_s(path: str) -> float:
        began = time.perf_counter()
        assert visitor.get(path).status == 200
        return time.perf_counter() - began

    def shortest_s(path: str) -> float:
        return min(took_s(path) for _ in range(3))

    short_s = shortest_s(page(KNOWN))
    for path in ("", "/at/50999", f"/at/{EVENTS}?before=50000", "/timeline?after=50000"):
        assert shortest_s(page(LONG) + path) < TIMES_AS_LONG_MOST * short_s, path
    html = visitor.get(page(LONG)).body
    assert len(html) < OPENED_BYTES_MOST
    assert len(Messages(html).ids) == WINDOW


def test_a_place_that_never_was_is_a_problem_and_not_a_page(
    visitor: Visitor, recorded: str
) -> None:
    assert visitor.get(f"{page(recorded)}/at/99999").status == 412
    assert visitor.get(f"{page(recorded)}/at/0").status == 404
    assert visitor.get(f"{page(recorded)}/at/last").status == 404
    assert visitor.get(page("nobody")).status == 404


def test_the_timeline_has_every_event_once(
    gateway: RunningGateway, visitor: Visitor, recorded: str
) -> None:
    first = json_of(visitor.get(f"{page(recorded)}/timeline"))
    second = json_of(visitor.get(f"{page(recorded)}/timeline?after=1000"))
    marks = [*first["marks"], *second["marks"]]
    stored = stored_events(gateway.folder, recorded)
    assert [mark[0] for mark in marks] == list(range(1, first["last"] + 1))
    assert [mark[4] for mark in marks] == [each.type for each in stored]
    times = [mark[1] for mark in marks if mark[4] == "message.completed"]
    assert times[0] < times[-1], "imported messages stand where they were said"


def test_a_jump_finds_what_the_timeline_shows(visitor: Visitor, recorded: str) -> None:
    marks = json_of(visitor.get(f"{page(recorded)}/timeline"))["marks"]
    for kind in ("prompt", "answer", "tool", "error"):
        wanted = [mark[0] for mark in marks if mark[3] == kind]
        on = json_of(visitor.get(f"{page(recorded)}/jump?from=500&kind={kind}"))
        back = json_of(visitor.get(f"{page(recorded)}/jump?from=500&kind={kind}&way=back"))
        assert on == {"seq": min(each for each in wanted if each > 500), "found": True}
        assert back == {"seq": max(each for each in wanted if each < 500), "found": True}
    none = json_of(visitor.get(f"{page(recorded)}/jump?from=500&kind=approval&way=back"))
    assert none == {"seq": 1, "found": False}


def test_a_raw_event_is_shown_with_its_link_of_the_chain(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    for event in stored_events(gateway.folder, KNOWN):
        html = visitor.get(f"{page(KNOWN)}/events/{event.seq}").body
        assert event.hash.hex() in html
        assert event.type in html
        payload = re.search(r"data-payload>(.*?)</pre>", html, re.DOTALL)
        assert payload is not None
        assert json.loads(unescape(payload[1])) == json.loads(event.payload or b"")


def json_of(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def gathered(frames: Iterator[Frame], enough: Callable[[list[Frame]], bool]) -> list[Frame]:
    found: list[Frame] = []
    for frame in frames:
        found.append(frame)
        if enough(found):
            return found
    raise AssertionError("the stream ended early")


def steps_of(frames: list[Frame]) -> list[list[Any]]:
    return [step for frame in frames for step in frame.data["steps"]]


def test_the_answer_arrives_while_it_streams_and_then_whole(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    prompt(gateway, "live:1", "first")
    seq = api(gateway, "/sessions/live%3A1/state?limit=1")["seq"]
    text = words(30)
    frames = visitor.live("live:1", seq)
    assert visitor.post(f"{page('live:1')}/prompt", text=f"**{text}**").status == 303
    ends = "run.completed"
    found = gathered(frames, lambda all_: any(m[4] == ends for m in all_[-1].data["marks"]))
    frames.close()  # type: ignore[attr-defined]
    steps = steps_of(found)
    streamed = "".join([step[4] for step in steps if step[0] == "delta"])
    assert streamed == f"**{text}**"
    asked, answered = [step[1] for step in steps if step[0] == "message"]
    assert "message user" in asked
    assert f"<strong>{text}</strong>" in answered
    assert steps[-1] == ["end"]
    marks = [mark[0] for frame in found for mark in frame.data["marks"]]
    assert marks == list(range(seq + 1, marks[-1] + 1))
    resumed = visitor.live("live:1", 0, **{"Last-Event-ID": str(found[0].id)})
    again = gathered(resumed, lambda all_: all_[-1].id == marks[-1])
    assert again[0].data["marks"][0][0] == (found[0].id or 0) + 1


def test_a_run_without_an_answer_says_how_it_ended(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    prompt(gateway, "ended:1", "first")
    seq = api(gateway, "/sessions/ended%3A1/state?limit=1")["seq"]
    frames = visitor.live("ended:1", seq)
    prompt(gateway, "ended:1", "!fail because of <rain>")
    failed = gathered(
        frames, lambda all_: any(m[4] == "run.failed" for m in all_[-1].data["marks"])
    )
    frames.close()  # type: ignore[attr-defined]
    shown_live = [step[1] for step in steps_of(failed) if step[0] == "message"]
    prompt(gateway, "ended:1", "and again")
    prompt(gateway, "ended:1", "!fail once more")
    html = visitor.text(page("ended:1"))
    assert html.count('class="message end failed"') == 2
    assert "because of &lt;rain&gt;" in shown_live[-1]
    assert shown_live[-1].strip() in html
    assert html.index("because of") < html.index("and again") < html.index("once more")
    assert Messages(html).ids == [each["id"] for each in state_of(gateway, "ended:1")["messages"]]


def state_of(gateway: RunningGateway, key: str) -> dict[str, Any]:
    found: dict[str, Any] = api(gateway, f"/sessions/{quote(key, safe='')}/state")
    return found


def test_what_a_tool_prints_is_shown_while_it_runs(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    prompt(gateway, "printing:1", "first")
    seq = api(gateway, "/sessions/printing%3A1/state?limit=1")["seq"]
    frames = visitor.live("printing:1", seq)
    command = "for n in 1 2 3; do echo line $n; sleep 0.3; done"
    prompt(gateway, "printing:1", f"!bash {json.dumps({'command': command})}")
    found = gathered(
        frames, lambda all_: any(m[4] == "run.completed" for m in all_[-1].data["marks"])
    )
    frames.close()  # type: ignore[attr-defined]
    steps = steps_of(found)
    printed = "".join([step[3] for step in steps if step[0] == "progress"])
    assert "line 1 line 2 line 3".startswith(" ".join(printed.split()))
    assert "line 1" in printed
    result = next(
        at for at, step in enumerate(steps) if step[0] == "message" and "line 3" in step[1]
    )
    assert max(at for at, step in enumerate(steps) if step[0] == "progress") < result


def test_what_waits_is_shown_and_approved_by_a_form(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    for decision, outcome in (("yes", "ok"), ("no", "denied")):
        key = f"approve:{decision}"
        prompt(gateway, key, WRITE)
        html = visitor.get(page(key)).body
        form = re.search(r'action="([^"]*/approvals/[^"]+)"', html)
        assert form is not None
        answer = visitor.post(form[1], approved=decision, reason="because")
        assert answer.status == 303
        idle(gateway, key)
        assert outcome in [
            json.loads(each.payload or b"{}").get("outcome")
            for each in stored_events(gateway.folder, key)
            if each.type == "tool.completed"
        ]


def test_nothing_is_done_without_the_forms_token(gateway: RunningGateway, visitor: Visitor) -> None:
    before = len(stored_events(gateway.folder, KNOWN))
    for path, fields in ACTIONS.items():
        assert visitor.post(f"{page(KNOWN)}{path}", csrf="", **fields).status == 403, path
        assert visitor.post(f"{page(KNOWN)}{path}", csrf="wrong", **fields).status == 403, path
    assert len(stored_events(gateway.folder, KNOWN)) == before


ACTIONS: dict[str, dict[str, Any]] = {
    "/prompt": {"text": "no"},
    "/abort": {},
    "/approvals/x": {"approved": "yes"},
    "/fork": {"into": "other", "at": 1},
    "/rerun": {"run": "x", "model": "demo/echo"},
    "/hold": {"reason": "no"},
    "/release": {},
    "/erase": {"reason": "no", "confirm": KNOWN},
}


def test_who_may_only_read_sees_no_controls_and_changes_nothing(
    gateway: RunningGateway,
) -> None:
    issued = gateway.post("/tokens", {"name": "reader", "scopes": ["read"]}, **BEARER)
    reader = Visitor(gateway, issued.body["token"])
    html = reader.get(page(KNOWN)).body
    main = html[html.index("<main") :]
    assert 'method="post"' not in main
    assert "data-raw" not in main.replace("data-raw-box", "")
    for path, fields in ACTIONS.items():
        assert reader.post(f"{page(KNOWN)}{path}", **fields).status == 403, path
    for path in ("/events/1", "/proof", "/export"):
        assert reader.get(f"{page(KNOWN)}{path}").status == 403, path
    assert 'method="post"' not in reader.get(f"{page(KNOWN)}/compare").body.partition("<main")[2]


def test_who_is_bound_to_some_sessions_sees_no_other_beside_them(
    gateway: RunningGateway,
) -> None:
    prompt(gateway, "mine:1", "hello")
    wanted = {"name": "bound", "scopes": ["read", "prompt"], "keyPrefix": "mine:"}
    issued = gateway.post("/tokens", wanted, **BEARER)
    bound = Visitor(gateway, issued.body["token"], "mine:1")
    for path in ("", "/at/now", "/timeline", "/jump?from=0", "/live", "/compare"):
        assert bound.get(page(KNOWN) + path).status == 404, path
    compared = bound.get(f"{page('mine:1')}/compare?other={KNOWN}").body
    assert f"Session not found: {KNOWN}" in compared
    assert bound.post(f"{page('mine:1')}/fork", into="other", at=1).status == 403


def test_a_fork_goes_its_own_way_and_both_are_compared(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    prompt(gateway, "fork:1", "the first prompt")
    seq = len(stored_events(gateway.folder, "fork:1"))
    prompt(gateway, "fork:1", "left side\nsame line")
    made = visitor.post(f"{page('fork:1')}/fork", into="fork:2", at=seq)
    assert made.status == 303
    assert made.headers["Location"].endswith("/ui/sessions/fork%3A2")
    prompt(gateway, "fork:2", "right side\nsame line")
    html = visitor.get(f"{page('fork:1')}/compare?other=fork:2").body
    assert f"Forked from fork:1 at event {seq}." in html
    assert "2 messages in common" in html
    assert html.count('<span class="diff-del">left side\n</span>') == 2
    assert html.count('<span class="diff-add">right side\n</span>') == 2
    assert '<span class="diff-same">same line\n</span>' in html
    assert "Session not found: nobody" in visitor.get(f"{page('fork:1')}/compare?other=nobody").body


def test_a_run_is_made_again_and_two_runs_are_compared(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    prompt(gateway, "rerun:1", "say one")
    prompt(gateway, "rerun:1", "say two")
    html = visitor.get(f"{page('rerun:1')}/compare").body
    run = re.search(r'name="run" value="([^"]+)"', html)
    assert run is not None
    made = visitor.post(f"{page('rerun:1')}/rerun", run=run[1], model="demo/echo")
    assert made.status == 303
    fork = made.headers["Location"].partition("other=")[2]
    until(lambda: not api(gateway, f"/sessions/{fork}")["session"]["processing"], "it is made")
    assert "Nothing else on either side." in visitor.get(made.headers["Location"]).body
    second, first = re.findall(r"<option[^>]*>(\d+)</option>", html)[:2]
    both = visitor.get(f"{page('rerun:1')}/compare?run={first}&beside={second}").body
    assert '<span class="diff-del">say one\n</span>' in both
    assert '<span class="diff-add">say two\n</span>' in both
    assert (
        "No run began at event 1."
        in visitor.get(f"{page('rerun:1')}/compare?run=1&beside={first}").body
    )


def test_what_is_compared_goes_on_by_itself_while_a_side_has_work(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    prompt(gateway, "beside:1", "first")
    prompt(gateway, "beside:2", f"other\n{WRITE}")
    path = f"{page('beside:1')}/compare?other=beside%3A2"
    html = visitor.text(path)
    assert f'hx-get="{path}"' in html
    part = visitor.get(path, **{"HX-Request": "true"}).body
    assert part.startswith('<div id="sides"')
    assert part.strip() in html
    visitor.get(page("beside:2"))
    visitor.post(f"{page('beside:2')}/abort", queue="yes")
    idle(gateway, "beside:2")
    part = visitor.get(path, **{"HX-Request": "true"}).body
    assert "hx-get" not in part


def test_a_session_is_verified_held_and_erased_with_a_receipt(
    gateway: RunningGateway, visitor: Visitor
) -> None:
    prompt(gateway, "gone", "a secret to forget")
    events = len(stored_events(gateway.folder, "gone"))
    html = visitor.get(f"{page('gone')}/proof?verify=true").body
    assert f"The chain is sound: {events} events" in html
    erase: dict[str, Any] = {"reason": "asked for", "confirm": "gone"}
    assert visitor.post(f"{page('gone')}/hold", reason="a lawsuit").status == 303
    assert "On hold: a lawsuit" in visitor.get(f"{page('gone')}/proof").body
    assert visitor.post(f"{page('gone')}/erase", **erase).status == 409
    assert visitor.post(f"{page('gone')}/release").status == 303
    wrong = visitor.post(f"{page('gone')}/erase", **(erase | {"confirm": "gome"}))
    assert (wrong.status, "write the session" in wrong.body) == (422, True)
    assert visitor.post(f"{page('gone')}/erase", **erase, first=9, last=2).status == 422
    done = visitor.post(f"{page('gone')}/erase", **erase)
    assert done.status == 200
    receipt = re.search(r'data-new-receipt="([^"]+)"', done.body)
    assert receipt is not None
    after = visitor.get(f"{page('gone')}/proof?verify=true").body
    assert "The chain is sound" in after
    assert f'data-receipt="{receipt[1]}"' in after
    assert "secret" not in after
    assert all(
        b"secret" not in (each.payload or b"") for each in stored_events(gateway.folder, "gone")
    )


def test_an_export_comes_by_the_cookie(visitor: Visitor) -> None:
    answer = visitor.get(f"{page(KNOWN)}/export?format=markdown")
    assert answer.status == 200
    assert "attachment" in answer.headers["Content-Disposition"]
    assert "hello" in answer.body
