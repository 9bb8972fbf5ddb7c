"""A transcript as one HTML page that loads nothing and runs nothing."""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from actors.audit.exporting.footer import COVERS, PROVES, Footer
from actors.audit.exporting.readable import data_url, shown, shown_line, shown_time
from actors.audit.exporting.transcript import Entry

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
TEMPLATE = "transcript.html.jinja"
STYLE = FOLDER / "transcript.css"


def html(key: str, entries: Iterable[Entry], footer: Footer) -> Iterator[str]:
    """Yield the page in pieces, as the entries come."""
    template = _environment().get_template(TEMPLATE)
    yield from template.generate(
        key=key,
        entries=entries,
        footer=footer,
        style=_style(),
        policy=content_policy(),
        covers=COVERS.format(footer.proven),
        proves=PROVES,
    )


@cache
def content_policy() -> str:
    """Return the page's Content-Security-Policy: its own style and pictures in it, no more."""
    digest = b64encode(sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _style() -> str:
    return STYLE.read_text("utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"shown": shown, "line": shown_line, "time": shown_time}
    environment.globals["data_url"] = data_url
    return environment
