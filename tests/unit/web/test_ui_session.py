"""Messages as the page shows them: escaped, cut, folded; events in lanes; lines beside lines."""

from html.parser import HTMLParser

import pytest

from actors.session import events as e
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from actors.session.state import DraftBlock, SessionState
from persistence.records import StoredEvent
from web.ui.bubbles import (
    AT_MAX,
    DIFF_LINES_MAX,
    OUTPUT_CHARACTERS_MAX,
    Bubble,
    arguments_text,
    draft_bubble,
    message_bubble,
)
from web.ui.comparing import LINES_MAX, beside, pairs
from web.ui.lanes import APPROVALS, MODEL, PROMPTS, SESSION, TOOLS, mark_of
from web.ui.templating import templates

PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "</pre></article><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "[x](javascript:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![x](https://elsewhere.example/p.png)",
    "![x](javascript:alert(1))",
    "<javascript:alert(1)>",
    '[a](https://b.example "onclick=alert(1)")',
    '[a]("onmouseover=alert(1)//)',
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<a href=javascript:alert(1)>x</a>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "```<script>\n<script>alert(1)</script>\n```",
    '```x" onclick="alert(1)\nx\n```',
    "`<img src=x onerror=alert(1)>`",
    "<style>@import 'https://elsewhere.example'</style>",
    "<base href=https://elsewhere.example>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<form action=https://elsewhere.example><button>x</button></form>",
    "<object data=javascript:alert(1)></object>",
    "<details open ontoggle=alert(1)>",
    "{{ 7 * 7 }}{% include 'base.html' %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202e<script>alert(1)</script>",
    "\x00<scr\x00ipt>alert(1)</script>",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "<!--><script>alert(1)</script-->",
)
WORDS = (
    "article header span time div pre details summary code p a img strong em ul ol li table thead"
    " tbody tr th td blockquote br hr del h1 h2 h3 s"
)
HARMLESS = frozenset(WORDS.split())
NAMES = (
    "class data-message data-seq data-index aria-label datetime href title rel src alt tabindex"
    " open start"
)
ATTRIBUTES = frozenset(NAMES.split())


class Harmless(HTMLParser):
    """Refuses every element and attribute that could do something."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in HARMLESS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            if name == "href":
                assert (value or "").startswith(("http://", "https://", "mailto:")), value
            if name == "src":
                assert (value or "").startswith("data:image/png;base64,"), value


def html_of(bubble: Bubble) -> str:
    return templates().get_template("_one.html").render(bubble=bubble)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_that_anybody_says_can_do_anything_on_the_page(payload: str) -> None:
    call = ToolCall(payload, payload, {payload: payload})
    picture = Image("image/png", payload)
    content: tuple[Block, ...] = (Text(payload), Thinking(payload), call, picture)
    messages: list[Message] = [
        UserMessage(content, 1),
        AssistantMessage(content, 1, payload, payload, payload, error=payload),
        ToolResultMessage(payload, payload, content, 1, details={"diff": f"+{payload}"}),
    ]
    for message in messages:
        Harmless().feed(html_of(message_bubble(payload, 1, message)))
    block = DraftBlock("text", 0, payload, payload, payload)
    draft = draft_bubble(SessionState(payload, draft_at=1, draft=(block,)))
    assert draft is not None
    Harmless().feed(html_of(draft))


def test_an_edit_is_shown_as_a_coloured_diff() -> None:
    diff = "--- a.py\n+++ a.py\n@@ -1 +1 @@\n-old\n+new\n same\n"
    message = ToolResultMessage("c", "edit", (Text("Changed."),), 1, details={"diff": diff})
    html = html_of(message_bubble("id", 1, message))
    assert '<span class="diff-del">-old\n</span>' in html
    assert '<span class="diff-add">+new\n</span>' in html
    assert '<span class="diff-at">@@ -1 +1 @@\n</span>' in html
    long = ToolResultMessage("c", "edit", (), 1, details={"diff": "+x\n" * 10_000})
    assert len(message_bubble("id", 1, long).parts[0].lines) == DIFF_LINES_MAX


def test_long_output_is_folded_and_very_long_output_is_cut() -> None:
    message = ToolResultMessage("c", "bash", (Text("line\n" * 100),), 1)
    assert message_bubble("id", 1, message).parts[0].folded
    message = ToolResultMessage("c", "bash", (Text("x" * (OUTPUT_CHARACTERS_MAX + 5)),), 1)
    assert "5 more characters are not shown here." in html_of(message_bubble("id", 1, message))


def test_texts_of_several_lines_among_arguments_can_be_read() -> None:
    text = arguments_text({"path": "a", "new": 'x = 1\n"path": "b"', "all": True})
    assert text == '"path": "a"\n"new":\n    x = 1\n    "path": "b"\n"all": true'
    assert arguments_text({"path": "a"}) == '{\n  "path": "a"\n}'
    assert arguments_text([1]) == "[\n  1\n]"


def test_a_picture_is_shown_and_another_file_is_not() -> None:
    shown = html_of(message_bubble("id", 1, UserMessage((Image("image/png", "aGk="),), 1)))
    assert '<img src="data:image/png;base64,aGk="' in shown
    other = html_of(message_bubble("id", 1, UserMessage((Image("image/svg+xml", "aGk="),), 1)))
    assert "<img" not in other
    assert "image/svg+xml" in other


def test_a_time_that_no_calendar_has_is_no_time() -> None:
    for at in (AT_MAX + 1, 10**18, -1):
        assert message_bubble("id", 1, UserMessage((Text("x"),), at)).at == 0


def test_each_event_stands_in_its_lane() -> None:
    answer = AssistantMessage((Text("x"),), 7)
    failed = AssistantMessage((Text("x"),), 7, stop_reason="error")
    expected: list[tuple[e.Event, int, str]] = [
        (e.PromptQueued(prompt_id="p", text="x", source="ui", at=1), PROMPTS, "event"),
        (e.MessageCompleted(message=UserMessage((), 7)), PROMPTS, "prompt"),
        (e.MessageCompleted(message=answer), MODEL, "answer"),
        (e.MessageCompleted(message=failed), MODEL, "error"),
        (e.TextDelta(index=0, text="x"), MODEL, "event"),
        (tool_completed("ok"), TOOLS, "tool"),
        (tool_completed("error"), TOOLS, "error"),
        (e.RunFailed(prompt_id="p", error="x", at=1), SESSION, "error"),
        (e.RunCompleted(prompt_id="p", at=1), SESSION, "event"),
        (
            e.ApprovalResolved(approval_id="a", tool_call_id="c", approved=True, reason="", at=1),
            APPROVALS,
            "approval",
        ),
        (e.Erased(type="tool.completed"), TOOLS, "event"),
    ]
    for event, lane, kind in expected:
        mark = mark_of(stored(event), event)
        assert (mark.lane, mark.kind) == (lane, kind), event


def tool_completed(outcome: str) -> e.ToolCompleted:
    return e.ToolCompleted(tool_call_id="c", tool_name="t", outcome=outcome, content=(), at=1)


def stored(event: e.Event) -> StoredEvent:
    name = event.type if isinstance(event, e.Erased) else event.wire_name
    return StoredEvent(1, 1, name, 1, 9_000, None, None, None, b"{}", b"", b"", b"")


def test_lines_stand_beside_lines_with_what_differs_marked() -> None:
    mine, theirs = beside(["a", "b", "c"], ["a", "x", "c", "d"])
    assert [(line.kind, line.text) for line in mine] == [("same", "a"), ("del", "b"), ("same", "c")]
    kinds = [line.kind for line in theirs]
    assert kinds == ["same", "add", "same", "add"]
    many = [str(number) for number in range(LINES_MAX + 1)]
    mine, theirs = beside([*many, "end"], [*reversed(many), "end"])
    assert {line.kind for line in mine} == {"del"}
    assert {line.kind for line in theirs} == {"add"}


def test_a_message_that_only_one_side_has_stands_alone() -> None:
    first = message_bubble("id", 1, UserMessage((Text("same"),), 1))
    second = message_bubble("id", 2, UserMessage((Text("more"),), 2))
    same, alone = pairs([first, second], [first])
    assert same.same
    assert (alone.mine, alone.theirs, alone.same) == (second, None, False)
