"""What a search looks at: a tree without what Git overlooks, at a pace that lets others run."""

import time
from collections.abc import Iterator

from actors.tools._pattern import IGNORE_BYTES_MAX, IgnoreRules
from actors.tools.base import ToolContext, ToolError
from actors.tools.workspace import Entry, Folder, Workspace

STRETCH_S = 0.005
"""How long a search goes on before others get their turn."""
PAUSE_S = 0.0001
"""Under gevent a pause of 0 lets other greenlets run, but neither timers nor sockets."""
VISITED_MAX = 100_000
NEVER_SEARCHED = frozenset({".git", ".sessiond"})
IGNORE_FILE = ".gitignore"


class Pace:
    """Lets others run now and then; ends what is cancelled or takes too long."""

    def __init__(self, context: ToolContext) -> None:
        self._context = context
        self._stretch_began = time.monotonic()
        self._deadline = self._stretch_began + context.limits.timeout_s

    def keep(self) -> None:
        """Let others run if it is time. Raises ToolCancelled, or ToolError after the timeout."""
        self._context.cancellation.check()
        if time.monotonic() - self._stretch_began < STRETCH_S:
            return
        time.sleep(PAUSE_S)
        self._stretch_began = time.monotonic()
        if self._stretch_began > self._deadline:
            timeout_s = self._context.limits.timeout_s
            raise ToolError(f"The search took more than {timeout_s:g} s. Search a smaller folder.")


class Tree:
    """The files and folders below one, by name, without what .gitignore files name.

    A folder that is ignored itself is searched all the same when it is asked for. ``whole``
    is False once something had to be left out.
    """

    def __init__(self, workspace: Workspace, path: str, pace: Pace) -> None:
        self.whole = True
        self.path = workspace.path_of(path)
        self._workspace = workspace
        self._pace = pace

    def inside(self, entry: Entry) -> str:
        """Return an entry's path from the folder that is searched."""
        return entry.path if self.path == "." else entry.path[len(self.path) + 1 :]

    def entries(self) -> Iterator[Entry]:
        """Yield all there is, a folder before what is in it. Raises ToolError, ToolCancelled."""
        rules = {self.path: self._rules_above()}
        for folder in self._workspace.walk(self.path, VISITED_MAX):
            self.whole = self.whole and folder.whole
            known = self._with_own(rules.pop(folder.path, IgnoreRules()), folder)
            folder.entries = [each for each in folder.entries if self._is_wanted(each, known)]
            for entry in folder.entries:
                if entry.kind == "folder":
                    rules[entry.path] = known
                self._pace.keep()
                yield entry

    def _is_wanted(self, entry: Entry, rules: IgnoreRules) -> bool:
        self._pace.keep()
        if entry.name in NEVER_SEARCHED:
            return False
        return not rules.ignore(entry.path, folder=entry.kind == "folder")

    def _rules_above(self) -> IgnoreRules:
        rules = IgnoreRules()
        if self.path == ".":
            return rules
        above, names = ".", self.path.split("/")
        for depth in range(1, len(names) + 1):
            self._pace.keep()
            rules = self._with_file(rules, above)
            above = "/".join(names[:depth])
            if rules.ignore(above, folder=True):
                return IgnoreRules()
        return rules

    def _with_own(self, rules: IgnoreRules, folder: Folder) -> IgnoreRules:
        if any(each.name == IGNORE_FILE and each.kind == "file" for each in folder.entries):
            return self._with_file(rules, folder.path)
        return rules

    def _with_file(self, rules: IgnoreRules, folder: str) -> IgnoreRules:
        try:
            data = self._workspace.read(f"{folder}/{IGNORE_FILE}", IGNORE_BYTES_MAX)
        except ToolError:  # there is none, or it is none that Git would mind
            return rules
        return rules.with_file(folder, data)
