"""Which paths are the page's, and which of them are there before anybody has signed in. Pure."""

from urllib.parse import unquote

UI = "/ui"
LOGIN = f"{UI}/login"
STATIC = f"{UI}/static/"


def is_ui(path: str) -> bool:
    """Tell whether a path belongs to the page."""
    return path == UI or path.startswith(f"{UI}/")


def is_open(path: str) -> bool:
    """Tell whether a path of the page is there for everybody."""
    return path == LOGIN or path.startswith(STATIC)


def is_inside(target: str) -> bool:
    """Tell whether a link of the page, without the prefix, leads nowhere else.

    A browser goes up at a segment of dots, also where they are escaped.
    """
    path = target.partition("?")[0]
    goes_up = any(unquote(segment) in ("..", ".") for segment in path.split("/"))
    return is_ui(path) and not goes_up and target.isprintable() and "\\" not in target
