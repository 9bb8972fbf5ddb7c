"""The page's templates: everything that is put into them is escaped, and nothing may be missing."""

from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

import jinja2
from markupsafe import Markup

from web.ui.markdown import rendered

HERE = Path(__file__).parent
STATIC_FILES = HERE / "static"
DIGEST_CHARACTERS = 12


@cache
def templates() -> jinja2.Environment:
    """Return the environment, made when the first page is rendered."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        time=shown_time,
        usd=shown_usd,
        count=shown_count,
        owner=shown_owner,
        markdown=rendered,
    )
    environment.globals["asset"] = asset
    return environment


@cache
def asset(name: str) -> str:
    """Return a static file's path below the root, with its digest: it may be kept for good."""
    digest = sha256((STATIC_FILES / name).read_bytes()).hexdigest()
    return f"static/{name}?v={digest[:DIGEST_CHARACTERS]}"


def shown_time(at_ms: int | None) -> Markup:
    """Return a time, which the page's script shows in the reader's own zone."""
    if not at_ms:
        return Markup("&ndash;")
    at = datetime.fromtimestamp(at_ms / 1_000, UTC)
    machine, people = at.isoformat(timespec="milliseconds"), at.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{} UTC</time>').format(machine, people)


def shown_usd(cost: float) -> str:
    """Return what something cost: cents, and of less than a cent what can be seen of it."""
    return f"${cost:,.2f}" if not cost or cost >= 0.01 else f"${cost:.4f}"


def shown_count(number: float) -> str:
    """Return a number of tokens or bytes, in thousands or millions where it is large."""
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if number >= size:
            return f"{number / (1_000 if unit == 'k' else size):,.1f}{unit}"
    return f"{number:,.0f}"


def shown_owner(name: str) -> str:
    """Return a process's host and number, without what tells two of the same number apart."""
    return name.rpartition(":")[0]
