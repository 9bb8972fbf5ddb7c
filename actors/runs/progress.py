"""What a running tool shows before it is done, gathered for the log, and bounded."""

from collections.abc import Callable

from actors.runs.deltas import DeltaGatherer
from actors.runs.link import RunLink
from actors.session import commands as c
from actors.session.events import TextDelta
from actors.session.messages import ToolCall
from actors.timers import Timers


class ToolProgress:
    """Hands on one tool's output as it comes, up to ``characters_max`` in all."""

    def __init__(self, link: RunLink, call: ToolCall, timers: Timers, characters_max: int) -> None:
        self._link = link
        self._call = call
        self._left = characters_max
        self._gatherer = DeltaGatherer(self._send, self._send, timers)

    def add(self, text: str) -> None:
        """Take more output; never blocks."""
        text = text[: self._left]
        self._left -= len(text)
        if text:
            self._gatherer.add(TextDelta(0, text))

    def close(self) -> None:
        """Send nothing more: the result says it all."""
        self._gatherer.close()

    def _send(self, deltas: tuple[c.Delta, ...], done: Callable[[], None]) -> None:
        link, call = self._link, self._call
        text = "".join([delta.text for delta in deltas])
        link.tell(c.ProgressTool(link.now_ms(), link.prompt_id, call.id, call.name, text), done)
