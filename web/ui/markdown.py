"""Markdown of models and people as HTML that can do nothing: rendered, then sanitised. Pure.

The renderer passes no HTML of the text through, and the sanitiser drops whatever it did not expect
of the renderer: either alone would do.
"""

from functools import cache

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

CHARACTERS_MAX = 100_000
NESTING_MAX = 20
TAGS = frozenset(
    [
        "a",
        "blockquote",
        "br",
        "code",
        "del",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "strong",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
ATTRIBUTES = {"a": {"href", "title"}, "code": {"class"}, "ol": {"start"}}
SCHEMES = frozenset({"http", "https", "mailto"})
LINK_RELATIONS = "noopener noreferrer nofollow"
LANGUAGE = "language-"


def rendered(text: str) -> Markup:
    """Return a text as HTML. Of one that is very long the rest follows as it is, escaped.

    Pictures become links to where they lie: a page that loads them tells somebody that it was
    read. Raises nothing, whatever the text is.
    """
    head, rest = text[:CHARACTERS_MAX], text[CHARACTERS_MAX:]
    html = Markup(_cleaned(_renderer().render(head)))  # noqa: S704 - sanitised
    return html + Markup("<pre>{}</pre>").format(rest) if rest else html


def _cleaned(html: str) -> str:
    return nh3.clean(
        html,
        tags=set(TAGS),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        attribute_filter=_kept,
        url_schemes=set(SCHEMES),
        link_rel=LINK_RELATIONS,
    )


def _kept(tag: str, name: str, value: str) -> str | None:
    """Return an attribute's value; a class only where it names a block's language."""
    if tag == "code" and name == "class":
        language = value.removeprefix(LANGUAGE)
        return value if value.startswith(LANGUAGE) and language.isidentifier() else None
    if tag == "a" and name == "href":
        return value if value.partition(":")[0].lower() in SCHEMES else None
    return value


@cache
def _renderer() -> MarkdownIt:
    renderer = MarkdownIt("commonmark", {"html": False, "maxNesting": NESTING_MAX})
    return renderer.enable(["table", "strikethrough"]).disable("image")
