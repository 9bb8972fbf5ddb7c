"""Which paths are the page's, and which of them are there before anybody has signed in. Pure."""

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
    """Tell whether a link of the page, without the prefix, leads nowhere else."""
    return is_ui(target.partition("?")[0]) and target.isprintable() and "\\" not in target
