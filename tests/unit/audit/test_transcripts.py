"""Transcripts show what was said as text, whatever it was, and tell what is gone and why."""

from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from actors.audit.exporting.transcripts import transcript
from actors.audit.exporting.writing import Exported, in_file
from actors.session import events as e
from actors.session.messages import (
    AssistantMessage,
    Image,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from actors.session.record_events import SessionBranched, SessionForked, SessionHeld, StreamErased
from persistence.in_memory import InMemoryEventLog
from persistence.records import Append, Erasure
from tests.unit.audit.files import AT, UNLISTED, appended, proven, signing_key

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</pre></details></article><script>alert(2)</script>",
    '"><svg/onload=alert(3)>',
    "' onmouseover='alert(4)",
    "<!-- --><style>*{display:none}</style>",
    "{{ 7*7 }}{% for x in y %}",
    "&lt;script&gt;alert(5)&lt;/script&gt;",
    "<iframe src=javascript:alert(6)></iframe>",
    "[click](javascript:alert(7))",
    "<meta http-equiv=refresh content=0;url=//evil>",
    "```\n````\n<b>out of the fence</b>\n`````",
    '<a href="data:text/html,<script>alert(8)</script>">x</a>',
    "\x1b[2J\x1b]8;;http://evil\x07 \u202egnp.exe",
    "~~~\n<b>tildes</b>\n~~~",
)
"""What must stay text, in Markdown and in HTML."""

TAGS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "main",
        "article",
        "header",
        "footer",
        "pre",
        "details",
        "summary",
        "bdi",
        "code",
        "img",
    ]
)


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def written(log: InMemoryEventLog, form: str, key: str = "k") -> str:
    head = log.head(f"session:{key}")
    assert head is not None
    return "".join(transcript(log, Exported(head, None, (), AT), form))


def everywhere(text: str) -> list[e.Event]:
    """Events that hold a text wherever one can stand."""
    call = ToolCall(text, text, {text: [text]})
    answer = AssistantMessage((Thinking(text), Text(text), call), AT, text, text, error=text)
    blocks = (Text(text), Image(text, text), Image("image/png", text))
    return [
        e.SessionCreated(session_id=text, at=AT),
        e.SessionImported(source=text, original_id=text, at=AT),
        e.SessionRenamed(name=text, at=AT),
        e.ModelSelected(provider=text, model_id=text, at=AT, thinking_level=text),
        SessionForked(text, text, 1, text, AT),
        SessionBranched(text, text, 1, AT),
        SessionHeld(text, AT),
        e.MessageCompleted(message=UserMessage(blocks, AT)),
        e.MessageCompleted(message=answer),
        e.ApprovalRequested("a", "t", text, {"x": text}, text, AT, AT),
        e.ApprovalResolved("a", "t", True, text, AT),
        e.ToolCompleted(tool_call_id=text, tool_name=text, outcome="ok", content=blocks, at=AT),
        e.MessageCompleted(message=ToolResultMessage(text, text, blocks, AT)),
        e.SteeringReceived(steering_id="s", text=text, at=AT),
        e.ContextCompacted(summary=text, first_kept_seq=1, at=AT),
        e.RunFailed(prompt_id="p", error=text, at=AT),
        StreamErased(text, text, ((1, 1),), AT),
    ]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_that_was_said_becomes_markup(payload: str) -> None:
    log = InMemoryEventLog()
    appended(log, "k", everywhere(payload), principal=payload)
    page = Page(written(log, "html"))
    assert page.tags <= TAGS
    assert set(page.attributes) <= {
        *("lang", "charset", "name", "content", "http-equiv"),
        *("class", "id", "dir", "open", "alt", "src"),
    }
    assert page.attributes["http-equiv"] == {"Content-Security-Policy"}
    assert all(each.startswith("data:image/") for each in page.attributes.get("src", ()))
    assert payload.split("\x1b", maxsplit=1)[0] in "".join(page.text)
    assert "\x1b" not in "".join(page.text)
    outside = "\n".join(_outside_fences(written(log, "markdown")))
    assert "<" not in outside
    assert "](" not in outside


def _outside_fences(text: str) -> Iterator[str]:
    """Yield what CommonMark doesn't take as code: fences of backticks, then spans."""
    fence = ""
    for line in text.split("\n"):
        ticks = line[: len(line) - len(line.lstrip("`"))]
        if not fence and len(ticks) >= 3 and "`" not in line[len(ticks) :]:
            fence = ticks
        elif fence:
            if line.rstrip().startswith(fence) and not line.strip("` "):
                fence = ""
        else:
            yield _without_spans(line)
    assert not fence


def _without_spans(line: str) -> str:
    left = ""
    while line:
        before, tick, rest = line.partition("`")
        left += before
        if not tick:
            break
        ticks = tick + rest[: len(rest) - len(rest.lstrip("`"))]
        inside = rest.lstrip("`")
        end = inside.find(ticks)
        while end >= 0 and inside[end + len(ticks) : end + len(ticks) + 1] == "`":
            run = len(inside[end:]) - len(inside[end:].lstrip("`"))
            end = inside.find(ticks, end + run)
        assert end >= 0, line
        line = inside[end + len(ticks) :]
    return left


def test_a_page_loads_nothing_and_shows_only_pictures_that_are_some() -> None:
    log = InMemoryEventLog()
    pictures = (
        Image("image/png", PIXEL),
        Image("image/svg+xml", "PHN2Zz48L3N2Zz4="),
        Image("text/html", "PGI+"),
        Image("image/png", "not base64!"),
    )
    appended(log, "k", [e.MessageCompleted(message=UserMessage(pictures, AT))])
    page = Page(written(log, "html"))
    assert page.attributes["src"] == {f"data:image/png;base64,{PIXEL}"}
    (policy,) = [each for each in page.attributes["content"] if "default-src" in each]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    assert written(log, "markdown").count("](data:") == 1


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_transcript_tells_who_said_what_when_and_what_came_of_it(form: str) -> None:
    log = InMemoryEventLog()
    answer = AssistantMessage((Thinking("hm"), ToolCall("t", "bash", {"command": "ls"})), AT)
    events = [
        e.SessionCreated(session_id="s1", at=AT),
        e.PromptQueued(prompt_id="p", text="list", source="chat", at=AT),
        e.PromptQueued(prompt_id="q", text="never ran", source="chat", at=AT),
        e.RunStarted(prompt_id="p", at=AT),
        e.MessageCompleted(message=UserMessage((Text("list"),), AT)),
        e.TextDelta(index=0, text="must not be told twice"),
        e.MessageCompleted(message=answer),
        e.ApprovalResolved("a", "t", False, "too risky", AT),
        e.ToolCompleted(
            tool_call_id="t", tool_name="bash", outcome="denied", content=(Text("no"),), at=AT
        ),
        e.SteeringReceived(steering_id="s", text="hurry", at=AT),
        e.SteeringDelivered(steering_id="s", at=AT),
        e.MessageCompleted(message=UserMessage((Text("hurry"),), AT)),
        e.PromptCancelled(prompt_id="q", reason="reset", at=AT),
        e.RunInterrupted(prompt_id="p", reason="The process ended.", at=AT),
    ]
    appended(log, "k", events)
    told = written(log, form)
    wanted = [
        *("Session s1 begins", "token:ci", "2026-09-21", "list", "hm", "bash", "command"),
        *("Denied: too risky", "Result of bash: denied", "Said while it ran", "hurry"),
        *("Told to the model", "cancelled: reset", "never ran", "Interrupted: The process ended."),
    ]
    place = 0
    for words in wanted:
        place = told.index(words, place)
    assert "told twice" not in told


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_what_is_erased_is_told_as_erased_with_the_reason(form: str) -> None:
    log = InMemoryEventLog()
    said = [e.MessageCompleted(message=UserMessage((Text(f"canary {n}"),), AT)) for n in range(3)]
    created = e.SessionCreated(session_id="s1", at=AT)
    appended(log, "k", [created, *said, StreamErased("r1", "GDPR 17", ((2, 3),), AT)])
    head = log.head("session:k")
    assert head is not None
    gone = (Erasure(head.row, 2, 4),)
    log.write([Append(head, (), UNLISTED, erasures=gone)])
    told = written(log, form)
    assert "canary" not in told
    assert told.count("[erased: GDPR 17, 2026-09-21 14:13:20 UTC]") == 1
    assert "seq 2 to 3" in told
    assert "[erased: without a record]" in told


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_transcript_says_what_proves_it_and_how_to_check(form: str, tmp_path) -> None:
    log = InMemoryEventLog()
    head = appended(log, "-k", [e.SessionCreated(session_id="s1", at=AT)])
    key = signing_key(tmp_path)
    public = str(key.named("log.example"))
    exported = Exported(head, in_file(proven(head, key)), (public,), AT)
    told = "".join(transcript(log, exported, form))
    for words in (
        *("session:-k", head.hash.hex(), "log.example/one", "covers the events up to seq 1"),
        *("sessiond export --output session.jsonl -- -k", f"--public-key {public}"),
    ):
        assert words in told
    assert told.endswith("\n")
