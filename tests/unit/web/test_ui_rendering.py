"""Whatever models, tools and people write does nothing where the page shows it."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from actors.audit.travel.run_list import RunEntry
from actors.audit.verifying.segments import Finding
from actors.audit.verifying.verification import StreamReport
from actors.gateway_state import Token
from actors.log_lines import LogLine
from actors.memory.identity import Identity
from actors.memory.service import NOTHING
from actors.models.info import ModelInfo
from actors.session.record_events import PastErasure
from actors.session.state import ModelRef, SessionState
from actors.session.summary import SessionSummary, ShownApproval, ShownUsage, ShownUsages
from persistence.records import Head, StoredEvent
from tests.unit.web.payloads import PAYLOADS
from web.schemas import FoundMemory, MemoryRecord
from web.ui.approvals import Waiting
from web.ui.bubbles import Bubble, DiffLine
from web.ui.compare import Sides
from web.ui.comparing import Pair
from web.ui.config import ShownSetting
from web.ui.looking import Panel
from web.ui.markdown import CHARACTERS_MAX, TAGS, rendered
from web.ui.memory import MemoryQuery
from web.ui.page import Frame
from web.ui.proof import EXPORTS
from web.ui.sessions import ListQuery, SessionPage, shown_session
from web.ui.templating import HERE, templates

FRAME = Frame("/ui", "csrf", True, "token:x", True, True, True, "", [], "")
ALLOWED = {"a": {"href", "title", "rel"}, "code": {"class"}, "ol": {"start"}}
HARMLESS = "harmless"


class Elements(HTMLParser):
    """Gathers a document's elements, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    return Elements(text).found


def shape(text: str) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in elements(text)]


def summary(text: str) -> SessionSummary:
    used = ShownUsage(1, 1, 0, 0, 0.0)
    return SessionSummary(
        session_key="k",
        session_id="s",
        message_count=1,
        queue_depth=0,
        processing=False,
        last_active_at=1,
        created_at=1,
        updated_at=1,
        last_message_preview=text,
        model_provider=text,
        model_id=text,
        name=text,
        usage=ShownUsages(used, used, used),
    )


def sessions(text: str) -> str:
    row = replace(shown_session(summary(text), f"{text}:1"), key=text)
    query = ListQuery(q=text, prefix=text)
    return (
        templates()
        .get_template("sessions.html")
        .render(
            ui=replace(FRAME, key_prefix=text, principal=text),
            page=SessionPage([row], None),
            query=query,
            here="sessions",
            further=None,
            alive={f"{text}:1"},
            primary=text,
            live=True,
        )
    )


def approvals(text: str) -> str:
    call = ShownApproval("id", "call", text, {"path": text}, text, 1, 2)
    waiting = [Waiting(text, text, call, text)]
    return templates().get_template("approvals.html").render(ui=FRAME, waiting=waiting, live=True)


def logs(text: str) -> str:
    lines = [LogLine(1, text, text)]
    return templates().get_template("logs.html").render(ui=FRAME, lines=lines, live=True)


def memory(text: str) -> str:
    kept = MemoryRecord(1, text, text, text, text, text, 1, 1, None)
    hits = [
        FoundMemory(
            id=1,
            source_type="memory",
            score=1.0,
            kind=text,
            bucket=text,
            content=text,
            source=text,
            timestamp=1,
        ),
        FoundMemory(id=1, source_type="episode", score=1.0, role=text, content=text, timestamp=1),
    ]
    return (
        templates()
        .get_template("memory.html")
        .render(
            ui=FRAME,
            query=MemoryQuery(session=text, q=text),
            identity=Identity(text, text),
            enabled=True,
            counts=NOTHING,
            hits=hits,
            core=[kept],
        )
    )


def problem(text: str) -> str:
    return templates().get_template("problem.html").render(ui=FRAME, title=text, detail=text)


def login(text: str) -> str:
    return templates().get_template("login.html").render(ui=FRAME, target=text, error=text)


def part(template: str, text: str, **values: object) -> str:
    """Render what belongs to a session; its key is not a text: a key has no such characters."""
    ui = replace(FRAME, key_prefix=text, principal=text)
    given = {"ui": ui, "key": "k", "session_url": "/ui/sessions/k", "live": True, **values}
    return templates().get_template(template).render(given)


def panel(text: str) -> str:
    facts = [("Name", text), ("Model", text), ("On hold", text)]
    return part(
        "_panel.html", text, panel=Panel(facts, [text], [text], [("i", text, text, text)], text)
    )


def raw_event(text: str) -> str:
    event = StoredEvent(1, 1, text, 1, 1, text, text, 1, b"", b"", b"", b"")
    return part("_event.html", text, event=event, payload=text, digest=text, cut=0)


def compare(text: str) -> str:
    bubble = Bubble(text, 1, "user", text, 1, ())
    lines = (DiffLine("same", text),)
    pair = Pair(bubble, bubble, lines, lines, True)
    model = ModelRef(text, text)
    return part(
        "compare.html",
        text,
        state=SessionState("k", name=text),
        other=text,
        failure=text,
        sides=Sides(text, "/a", text, "/b", text, [pair], more=True, goes_on=True),
        asked=text,
        runs=[RunEntry(text, 1, 1, text, text, 2, 2, text, model)] * 2,
        more_runs=None,
        models=[text],
    )


def proof(text: str) -> str:
    return part(
        "proof.html",
        text,
        state=SessionState("k", name=text, hold=text),
        head=Head(1, "s", 1, b"", 1),
        exports=EXPORTS,
        checkpoint=text,
        receipts=[PastErasure(1, text, text, ((1, 2),), 1)],
        report=StreamReport(text, 1, b"", 1, 1, 0, (Finding(1, text), Finding(2, text))),
        receipt=PastErasure(1, text, text, (), 1),
        receipt_text=text,
        failure=text,
    )


def tokens(text: str) -> str:
    issued = [Token("id", text, "", (text,), text, 1), Token("id", text, "", (text,), text, 1, 2)]
    scopes = {"read": text}
    return part("tokens.html", text, tokens=issued, scopes=scopes, issued=text, are_required=False)


def config(text: str) -> str:
    kinds = ("fixed", "switch", "number")
    rows = [ShownSetting(text, text, kind, text, is_changed=True) for kind in kinds]
    return part("config.html", text, rows=rows, model=text)


def models(text: str) -> str:
    shown = ModelInfo(text, text, text, 1, 1, reasoning=True, vision=True)
    return part("models.html", text, models=[shown], default=ModelRef("", ""))


SHOWN = [
    sessions,
    approvals,
    memory,
    logs,
    problem,
    login,
    panel,
    raw_event,
    compare,
    proof,
    tokens,
    config,
    models,
]
"""All that shows what somebody wrote, but for messages: those are in test_ui_session."""


@pytest.mark.parametrize("show", SHOWN)
def test_a_page_has_the_same_elements_whatever_it_shows(show: Callable[[str], str]) -> None:
    harmless = shape(show(HARMLESS))
    for payload in PAYLOADS:
        assert shape(show(payload)) == harmless, payload


def test_no_template_lets_a_text_through_as_it_is() -> None:
    sources = [path.read_text() for path in (HERE / "templates").iterdir()]
    assert len(sources) > 20
    assert not [text for text in sources if re.search(r"\|\s*safe\b|autoescape|Markup", text)]
    assert not [text for text in sources if re.search(r"\s[\w-]+=\{\{", text)], (
        "an attribute has quotes"
    )


def test_no_script_makes_html_of_a_text() -> None:
    careless = r"(inner|outer)HTML|insertAdjacentHTML|document\.write|eval\(|new Function|srcdoc"
    for path in (HERE / "static").glob("*.js"):
        if path.name != "htmx.min.js":
            assert not re.search(careless, path.read_text()), path.name
    base = (HERE / "templates/base.html").read_text()
    configured = re.search(r"htmx-config\" content='([^']+)'", base)
    assert configured is not None
    htmx = json.loads(configured[1])
    assert (htmx["allowEval"], htmx["allowScriptTags"]) == (False, False)
    assert (htmx["includeIndicatorStyles"], htmx["selfRequestsOnly"]) == (False, True)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markdown_keeps_harmless_elements_only(payload: str) -> None:
    for text in (payload, f"> {payload}", f"- {payload}", f"# {payload}", f"*a* {payload} `b`"):
        for tag, attributes in elements(rendered(text)):
            assert tag in TAGS
            assert set(attributes) <= ALLOWED.get(tag, set())
            href = attributes.get("href")
            assert href is None or href.startswith(("http://", "https://", "mailto:"))


def test_markdown_shows_what_people_write() -> None:
    text = "# T\n\n**b** *i* ~~s~~ `c`\n\n1. x\n\n| a |\n|-|\n| 1 |\n\n```python\nx < 1\n```"
    html = rendered(text)
    for part in ("<h1>T</h1>", "<strong>b</strong>", "<s>s</s>", "<ol>", "<td>1</td>"):
        assert part in html
    assert '<code class="language-python">x &lt; 1' in html


def test_a_picture_becomes_a_link_and_loads_nothing() -> None:
    html = rendered("![secret](https://evil.example/x.png?read=1)")
    assert [tag for tag, _ in elements(html)] == ["p", "a"]


def test_links_tell_nobody_where_they_were_followed() -> None:
    ((_, _), (tag, attributes)) = elements(rendered("[x](https://example.com)"))
    assert tag == "a"
    assert attributes["rel"] == "noopener noreferrer nofollow"


def test_of_a_very_long_text_the_rest_is_shown_as_it_is() -> None:
    html = rendered("a" * CHARACTERS_MAX + "<b>*x*")
    assert html.endswith("<pre>&lt;b&gt;*x*</pre>")


@pytest.mark.parametrize(
    "text", ["[" * 5_000, ">" * 5_000, "*" * 5_000, "`" * 5_000 + "a", "|-" * 2_000, "- " * 2_000]
)
def test_deep_nesting_is_rendered_all_the_same(text: str) -> None:
    assert isinstance(rendered(text), str)
